// The page of a mesh: it shows what /page/live says, and asks for lists as they are wanted. Whatever a name is, it is
// text here: nothing is made of markup.
'use strict';

const $ = (selector, from = document) => from.querySelector(selector);
const store = window.sessionStorage;
let state = null;

// The token comes once, behind the '#', which no server sees, and stays as long as the tab.
function takeToken() {
  if (!location.hash.startsWith('#token=')) return false;
  try {
    store.setItem('mesh-token', decodeURIComponent(location.hash.slice(7)));
  } catch { /* is none */ }
  history.replaceState(null, '', location.pathname);
  return true;
}
takeToken();
window.addEventListener('hashchange', () => { if (takeToken()) again(); });
const token = () => store.getItem('mesh-token') || '';

// ---- what is shown of a text

// What would turn around, or hide, what stands beside it is shown by its number.
const odd = /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;
const shown = (text) => String(text).replace(odd, (c) => '\\u{' + c.codePointAt(0).toString(16) + '}');

function make(tag, attributes = {}, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'class') out.className = value;
    else if (name.startsWith('on')) out.addEventListener(name.slice(2), value);
    else if (value === true) out.setAttribute(name, '');
    else if (value !== false && value !== undefined) out.setAttribute(name, shown(value));
  }
  for (const child of children) out.append(child instanceof Node ? child : document.createTextNode(shown(child)));
  return out;
}
// A name stands by itself, in whichever direction it is read.
const name = (text) => make('bdi', {}, text);
function say(node, text) {
  const said = shown(text);
  if (node.textContent !== said) node.textContent = said;
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'];
function bytes(count) {
  let unit = 0;
  for (; count >= 999.5 && unit < 6; ++unit) count /= 1000;
  return (unit === 0 || count >= 99.95 ? count.toFixed(0) : count >= 9.995 ? count.toFixed(1) : count.toFixed(2)) + ' ' + units[unit];
}
const rate = (count) => count > 0 ? bytes(count) + '/s' : '';
function duration(seconds) {
  if (seconds < 0) return '';
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  return Math.floor(seconds / 3600) + ' h ' + Math.floor(seconds / 60 % 60) + ' min';
}
const two = (number) => String(number).padStart(2, '0');
function time(seconds) {
  const at = new Date(seconds * 1000);
  if (isNaN(at)) return '';
  return at.getFullYear() + '-' + two(at.getMonth() + 1) + '-' + two(at.getDate()) + ' ' + two(at.getHours()) + ':' + two(at.getMinutes());
}
const part = (done, total) => total > 0 ? Math.min(100, Math.floor(100 * done / total)) : 100;

// Each of `items` by its key as a child of `list`: those that stay stay as they are, the focus in them, too.
function keyed(list, items, key, begin, update) {
  const count = new Map();
  const keys = items.map((item) => {
    const id = key(item);
    count.set(id, (count.get(id) || 0) + 1);
    return id + (count.get(id) > 1 ? '\n' + count.get(id) : '');
  });
  const wanted = new Set(keys);
  const before = new Map();
  // First, so that none of the others has to move, which would take the focus from it.
  for (const child of [...list.children]) {
    if (wanted.has(child.dataset.key)) before.set(child.dataset.key, child);
    else child.remove();
  }
  let next = list.firstElementChild;
  items.forEach((item, i) => {
    const child = before.get(keys[i]) || begin(item);
    child.dataset.key = keys[i];
    update(child, item);
    if (child === next) next = next.nextElementSibling;
    else list.insertBefore(child, next);
  });
}

// ---- asking

function headers(more = {}) {
  return token() ? {Authorization: 'Bearer ' + token(), ...more} : more;
}
async function ask(path, options = {}) {
  const answer = await fetch(path, {cache: 'no-store', credentials: 'omit', redirect: 'error', ...options});
  if (answer.ok) return answer;
  const error = new Error((await answer.text()).trim() || String(answer.status));
  error.status = answer.status;
  throw error;
}
const look = async (path, signal) => (await ask(path, {headers: headers(), signal})).json();

let saidUntil;
function tell(text) {
  say($('#said'), text);
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => say($('#said'), ''), 8000);
}

// A question; of a token, too. What was written, or true, or null. One after the other.
let asked = Promise.resolve();
function question(text, secret) {
  const mine = asked.then(() => new Promise((done) => {
    const dialog = $('#ask');
    const field = $('input', dialog);
    say($('#ask-text'), text);
    $('.secret', dialog).hidden = !secret;
    field.value = '';
    say($('.yes', dialog), secret ? 'Use it' : 'Yes');
    dialog.returnValue = '';
    dialog.addEventListener('close', () => {
      const value = secret ? field.value.trim() : true;
      field.value = '';
      done(dialog.returnValue === 'yes' ? value : null);
    }, {once: true});
    dialog.showModal();
    (secret ? field : $('.no', dialog)).focus();
  }));
  asked = mine.catch(() => {});
  return mine;
}
let asking = null;
function askForToken(why) {
  asking ??= question(why + ' It is in the file of --http-token, or http-token in the state directory.', true).then((given) => {
    asking = null;
    if (given) store.setItem('mesh-token', given);
    return given;
  });
  return asking;
}

// True where it was done.
async function order(kind, body, done) {
  if (!token() && !await askForToken('What changes something needs the token of this node.')) return false;
  try {
    const answer = await (await ask('/page/' + kind, {method: 'POST', headers: headers({'Content-Type': 'application/json'}), body: JSON.stringify(body)})).json();
    tell(answer.ok ? done(answer) : answer.errors.join('; '));
    if (kind !== 'cancel') files.load();
    return answer.ok;
  } catch (error) {
    if (error.status === 401) store.removeItem('mesh-token');
    tell(error.status === 401 ? 'That was not the token of this node.' : error.message);
    return false;
  }
}
const may = (kind) => state !== null && state.allowed.includes(kind);

// ---- what changes by itself

function fillBar(bar, one) {
  const percent = part(one.done, one.total);
  bar.setAttribute('aria-valuenow', percent);
  if (!one.have) {
    let fill = bar.firstElementChild;
    if (!fill || fill.tagName !== 'DIV') bar.replaceChildren(fill = make('div'));
    fill.style.width = percent + '%';
    return;
  }
  let canvas = bar.firstElementChild;
  if (!canvas || canvas.tagName !== 'CANVAS') bar.replaceChildren(canvas = make('canvas', {'aria-hidden': 'true'}));
  const colour = getComputedStyle(document.documentElement).getPropertyValue('--bar');
  if (canvas.dataset.have === one.have && canvas.dataset.colour === colour) return;
  canvas.dataset.have = one.have;
  canvas.dataset.colour = colour;
  canvas.width = one.have.length;
  canvas.height = 1;
  const pen = canvas.getContext('2d');
  pen.fillStyle = colour;
  for (let i = 0; i < one.have.length; ++i) {
    pen.globalAlpha = parseInt(one.have[i], 16) / 10;
    pen.fillRect(i, 0, 1, 1);
  }
}

function beginRow(one) {
  return make('div', {class: 'row'}, name(one.node),
      make('div', {class: 'bar', role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-label': one.node}),
      make('span', {class: 'figures'}), make('span', {class: 'from'}));
}
function updateRow(row, one) {
  fillBar($('.bar', row), one);
  const eta = one.rate > 0 ? duration(one.eta) : '';
  say($('.figures', row), [part(one.done, one.total) + '%', one.state === 'downloading' ? rate(one.rate) : one.state, eta && 'in ' + eta].filter(Boolean).join('  '));
  const from = one.from.map((giver) => giver.who + ' ' + bytes(giver.bytes)).join(', ');
  say($('.from', row), [one.detail, from && 'from ' + from].filter(Boolean).join('; '));
}

// Of a swarm that is looked at whole, the nodes after the first few: asked for now and then.
const wholes = new Map();
async function lookAtWhole(at, shownRows) {
  const whole = wholes.get(at);
  if (!whole || whole.busy || Date.now() - whole.looked < 4000) return;
  whole.busy = true;
  try {
    const rows = [];
    let after = encoded(shownRows[shownRows.length - 1].node);
    for (let pages = 0; after !== '' && pages < 20; ++pages) {
      const page = await look('/page/swarm' + query({path: at, after}));
      rows.push(...page.bars);
      after = page.next;
    }
    whole.rows = rows;
  } catch { /* the next time */ }
  whole.looked = Date.now();
  whole.busy = false;
}

function showMoving(now) {
  for (const at of wholes.keys()) if (!now.swarms.some((swarm) => swarm.at === at)) wholes.delete(at);
  keyed($('#moving .list'), now.swarms, (swarm) => swarm.at, (swarm) => make('div', {class: 'swarm'},
      make('h3', {}, name(swarm.name), make('span', {class: 'note'})), make('div', {class: 'rows'}),
      make('button', {class: 'more', onclick: () => { wholes.has(swarm.at) ? wholes.delete(swarm.at) : wholes.set(swarm.at, {rows: [], looked: 0}); showMoving(state); }})),
  (one, swarm) => {
    const nodes = swarm.nodes === 1 ? '1 node' : swarm.nodes + ' nodes';
    say($('h3 .note', one), '  ' + bytes(swarm.total) + ' to ' + nodes + (swarm.rate > 0 ? ', ' + rate(swarm.rate) + ' in all' : ''));
    const whole = wholes.get(swarm.at);
    if (whole && swarm.more > 0) lookAtWhole(swarm.at, swarm.bars);
    keyed($('.rows', one), whole ? [...swarm.bars, ...whole.rows] : swarm.bars, (row) => row.node, beginRow, updateRow);
    one.lastElementChild.hidden = swarm.more === 0;
    say(one.lastElementChild, whole ? 'Only the first nodes' : 'and ' + swarm.more + ' more nodes');
  });
  say($('#moving > .note'), now.more_swarms > 0 ? 'and ' + now.more_swarms + ' more files' : now.swarms.length === 0 ? 'Nothing.' : '');
}

function showWarnings(now) {
  keyed($('#warnings ul'), now.warnings, (one) => one.level + '\n' + one.node + '\n' + one.what.replace(/[\d.]+/g, ''), () => make('li', {},
      make('span', {class: 'level'}), ' ', make('span', {class: 'what'}), make('div', {class: 'mend'})),
  (item, one) => {
    item.className = one.level;
    say($('.level', item), one.level === 'fault' ? 'Fault' : 'Warning');
    say($('.what', item), (one.node ? one.node + ': ' : '') + one.what);
    say($('.mend', item), one.mend ? 'Mend: ' + one.mend : '');
  });
  say($('#warnings .note'), now.more_warnings > 0 ? 'and ' + now.more_warnings + ' more' : now.warnings.length === 0 ? 'None.' : '');
}

function showHour(hour) {
  const series = [['received', 'arrived'], ['from_sources', 'of it from nodes that had the whole file'], ['from_origins', 'of it from URLs\u2019 servers']];
  const minutes = 60;
  const most = Math.max(1, ...series.flatMap(([key]) => hour[key]));
  const chart = $('#hour .chart');
  let svg = chart.firstElementChild;
  const space = 'http://www.w3.org/2000/svg';
  if (!svg) {
    svg = document.createElementNS(space, 'svg');
    svg.setAttribute('viewBox', '0 0 ' + (minutes - 1) + ' 100');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('role', 'img');
    const axis = document.createElementNS(space, 'line');
    for (const [key, value] of [['x1', 0], ['x2', minutes - 1], ['y1', 99.5], ['y2', 99.5], ['class', 'axis']]) axis.setAttribute(key, value);
    svg.append(axis);
    series.forEach((one, i) => {
      const path = document.createElementNS(space, 'path');
      path.setAttribute('class', 's' + i);
      svg.append(path);
    });
    chart.append(svg);
    series.forEach(([key, label], i) => $('#hour .legend').append(make('li', {class: 's' + i}, make('b', {}), ' ', label)));
  }
  series.forEach(([key], i) => {
    const points = hour[key].map((value, x) => (x === 0 ? 'M' : 'L') + (x + minutes - hour[key].length) + ' ' + (98 - 96 * value / most).toFixed(1));
    svg.querySelector('.s' + i).setAttribute('d', points.join(''));
    say($('#hour .legend .s' + i + ' b'), bytes(hour[key].reduce((sum, value) => sum + value, 0)));
  });
  svg.setAttribute('aria-label', 'Bytes a minute in the last hour, at most ' + bytes(most) + '; the sums are below');
}

function showGets(now) {
  keyed($('#gets .list'), now.gets, (get) => get.node + '\n' + get.number, (get) => make('div', {class: 'get'},
      make('span', {class: 'what'}, get.node + ': ', name(get.whats.join(' ') + (get.more_whats > 0 ? ' and ' + get.more_whats + ' more' : ''))),
      make('span', {class: 'figures'}),
      make('button', {class: 'act', 'aria-label': 'Cancel ' + get.whats.join(' '), onclick: () => order('cancel', {numbers: [get.number]}, () => 'Cancelled; what has arrived is kept.')}, 'Cancel')),
  (row, get) => {
    const files = get.files_total > 1 ? get.files_done + '/' + get.files_total + ' files' : '';
    say($('.figures', row), [get.state, get.state === 'failed' ? '' : files, get.total > 0 && get.state !== 'failed' ? bytes(get.done) + ' of ' + bytes(get.total) : '', rate(get.rate), get.detail].filter(Boolean).join('  '));
    $('.figures', row).classList.toggle('amiss', get.state === 'failed');
    $('button', row).hidden = !may('cancel') || get.node !== now.name || get.state === 'failed';
  });
  say($('#gets .note'), now.more_gets > 0 ? 'and ' + now.more_gets + ' more' : now.gets.length === 0 ? 'None under way.' : '');
  $('#gets form').hidden = !may('get');
  $('#nodes .cache').hidden = !may('cache');
}

function show(now) {
  const begins = state === null || state.started !== now.started;
  if (state !== null && state.version !== now.version) location.reload();
  state = now;
  say($('h1'), now.name);
  document.title = shown(now.name) + (now.warnings.some((one) => one.level === 'fault') ? ' (!)' : '') + ' \u2013 mesh';
  const all = now.nodes + now.absent;
  const nodesText = now.answering < all ? now.answering + ' of ' + all + ' nodes' : all === 1 ? '1 node' : all + ' nodes';
  say($('#who'), now.program + ' ' + now.version + ' \u00b7 ' + nodesText + (now.rate > 0 ? ' \u00b7 ' + rate(now.rate) + ' arrives' : ''));
  showWarnings(now);
  showMoving(now);
  showHour(now.hour);
  showGets(now);
  if (begins) files.load();
  nodes.refresh(begins);
}

// ---- lists

let finding = '';
const query = (values) => '?' + Object.entries(values).filter(([, value]) => value !== '').map(([key, value]) => key + '=' + value).join('&');
const encoded = (text) => encodeURIComponent(text);

const files = {
  at: '', asked: 0, loaded: 0, pending: false, rows: [], shown: {}, details: new Map(),
  async load(after = '') {
    const number = ++this.asked;
    const found = finding;
    this.stop?.abort();
    this.stop = new AbortController();
    this.loaded = Date.now();
    this.pending = true;
    // Of the same list there is more still while its beginning is looked at again.
    if (after || found !== this.shown.found || this.at !== this.shown.at) $('#files .more').hidden = true;
    let page;
    try {
      page = await look('/page/files' + query({path: found ? '' : this.at, find: encoded(found), after}), this.stop.signal);
    } catch (error) {
      if (number !== this.asked) return;
      this.pending = false;
      // Of another directory, or another word, than what is shown.
      if (found !== this.shown.found || this.at !== this.shown.at) this.show([], false);
      else $('#files .more').hidden = !this.next;
      say($('#files .note'), error.message);
      return;
    }
    if (number !== this.asked) return;
    this.pending = false;
    this.loaded = Date.now();
    this.shown = {found, at: this.at};
    this.show(page.rows, after !== '');
    this.next = page.next;
    $('#files .more').hidden = page.next === '';
    say($('#files .note'), page.view || (page.rows.length === 0 && after === '' ? (found ? 'No file is called that.' : 'Nothing is here.') : ''));
    this.crumbs();
  },
  crumbs() {
    const now = this.at + '\n' + finding;
    if (now === this.crumbsOf) return;
    this.crumbsOf = now;
    const parts = this.at === '' ? [] : this.at.split('/');
    const links = [make('button', {class: 'name', onclick: () => this.go('')}, 'all')];
    parts.forEach((one, i) => {
      let text = one;
      try { text = decodeURIComponent(one); } catch { /* bytes that are no text stay encoded */ }
      links.push(document.createTextNode(' / '), make('button', {class: 'name', onclick: () => this.go(parts.slice(0, i + 1).join('/'))}, name(text)));
    });
    if (finding) links.push(document.createTextNode(' \u00b7 '), name('names with \u201c' + shown(finding) + '\u201d'));
    $('#files .crumbs').replaceChildren(...links);
  },
  go(at) {
    this.at = at;
    this.details.clear();
    finding = '';
    $('#find').value = '';
    this.load();
    nodes.load();
  },
  show(rows, append) {
    this.rows = append ? [...this.rows, ...rows] : rows;
    const lines = this.rows.flatMap((row) => this.details.has(row.at) ? [row, {detailsOf: row.at}] : [row]);
    keyed($('#files tbody'), lines, (line) => line.detailsOf !== undefined ? 'details ' + line.detailsOf : line.at,
        (line) => line.detailsOf !== undefined ? this.details.get(line.detailsOf) : this.begin(line),
        (element, line) => { if (line.detailsOf === undefined) this.update(element, line); });
  },
  begin(row) {
    const press = row.kind === 'directory' ? () => this.go(row.at) : (event) => this.open(row, event.target.closest('tr'));
    return make('tr', {}, make('td', {}, make('button', {class: 'name', onclick: press, 'aria-expanded': row.kind === 'directory' ? false : 'false'}, name(''))),
        make('td', {class: 'n'}), make('td', {class: 'wide'}), make('td', {class: 'n'}), make('td'));
  },
  update(line, row) {
    const [, size, changed, holders, what] = line.children;
    const short = finding ? row.name : row.name.slice(row.name.lastIndexOf('/') + 1);
    say($('bdi', line), short + (row.kind === 'directory' ? '/' : ''));
    const directory = row.kind === 'directory';
    say(size, directory ? '' : bytes(row.size));
    say(changed, time(row.mtime));
    say(holders, directory ? '' : row.holders + ' of ' + Math.max(state ? state.nodes : 0, row.holders));
    const notes = directory ? ['directory', ''] : row.kind === 'link' ? ['link', ''] : row.versions > 1 ? [row.versions + ' versions', 'amiss'] : row.unsure ? ['perhaps several versions', 'unsure'] : row.hashed ? ['hashed', 'ok'] : ['candidate', ''];
    say(what, notes[0]);
    what.className = notes[1];
  },
  async open(row, line) {
    const button = $('button', line);
    if (this.details.delete(row.at)) {
      this.show(this.rows, false);
      button.setAttribute('aria-expanded', 'false');
      return;
    }
    let about;
    try {
      about = await look('/page/file' + query({path: row.at}));
    } catch (error) {
      tell(error.message);
      return;
    }
    const cell = make('td', {colspan: 5});
    for (const version of about.versions) {
      const more = version.node_count - version.nodes.length;
      cell.append(make('p', {}, (version.chosen ? 'What a get brings: ' : 'Another version: ') + bytes(version.size) + ', ' + time(version.mtime) + (version.id ? ', ' + version.id.slice(0, 16) + '\u2026' : ', a candidate: not hashed yet') + ', on ',
          name(version.nodes.join(', ')), more > 0 ? ' and ' + more + ' more' : ''));
    }
    if (may('get')) cell.append(make('button', {onclick: () => order('get', {paths: [row.at]}, () => state.name + ' gets it.')}, 'Get it here'), ' ');
    if (may('delete'))
      cell.append(make('button', {onclick: async () => {
        if (await question('Delete ' + shown(row.name) + ' from ' + shown(state.name) + '? Other nodes keep theirs.')) order('delete', {paths: [row.at]}, (done) => 'Deleted, ' + bytes(done.bytes) + '.');
      }}, 'Delete it here'));
    this.details.set(row.at, make('tr', {class: 'details'}, cell));
    this.show(this.rows, false);
    button.setAttribute('aria-expanded', 'true');
  },
};

const nodes = {
  asked: 0, loaded: 0, found: '', rows: [],
  words: {here: 'here', silent: 'does not answer', absent: 'not in the mesh now', alone: 'reaches nobody', old: 'of an older version'},
  // Lists cost more than the rest: the first page is looked at again every few seconds.
  refresh(now) {
    if (now || Date.now() - this.loaded > 3000 && this.rows.length <= 100 && !document.hidden) this.load();
    if (!files.pending && Date.now() - files.loaded > 10000 && files.rows.length <= 200 && !document.hidden) files.load();
  },
  async load(after = '') {
    const number = ++this.asked;
    this.loaded = Date.now();
    if (after || this.found !== finding) $('#nodes .more').hidden = true;
    this.found = finding;
    let page;
    try {
      page = await look('/page/nodes' + query({find: encoded(finding), after}));
    } catch (error) {
      if (number !== this.asked) return;
      $('#nodes .more').hidden = !this.next;
      say($('#nodes .note'), error.message);
      return;
    }
    if (number !== this.asked) return;
    this.rows = after ? [...this.rows, ...page.rows] : page.rows;
    this.next = page.next;
    $('#nodes .more').hidden = page.next === '';
    say($('#nodes .note'), this.rows.length === 0 ? 'No node is called that.' : '');
    keyed($('#nodes tbody'), this.rows, (row) => row.node, (row) => make('tr', {}, make('th', {scope: 'row'}, name(row.node)), make('td'), make('td', {class: 'n'}), make('td', {class: 'n'}), make('td', {class: 'n'}), make('td', {class: 'n wide'}), make('td', {class: 'wide'})), (line, row) => {
      const [, what, comes, goes, free, entries, version] = line.children;
      const known = row.state === 'here' || row.state === 'alone';
      say(what, this.words[row.state] + (row.detail ? ': ' + row.detail : ''));
      what.className = row.state === 'here' ? 'ok' : row.state === 'old' ? 'unsure' : 'amiss';
      say(comes, known ? rate(row.rate) || '\u2013' : '');
      say(goes, known ? rate(row.up_rate) || '\u2013' : '');
      say(free, known && row.space > 0 ? bytes(row.free) + ' of ' + bytes(row.space) : '');
      say(entries, known ? row.entries : '');
      say(version, row.version || '');
    });
  },
};

// ---- being told

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const silence = 30000;

const why401 = 'This page is shown to who has its token.';
let declined = false;
let tryNow = () => {};
let stream = null;
// Looks anew, with another token, say.
function again() {
  stream?.abort();
  tryNow();
}
$('#token').addEventListener('click', async () => { if (await askForToken(why401)) again(); });
// A browser has few connections to one host, and a mesh is asked for who looks alone.
document.addEventListener('visibilitychange', again);
const visible = () => new Promise((done) => {
  const look = () => {
    if (document.hidden) return;
    document.removeEventListener('visibilitychange', look);
    done();
  };
  document.addEventListener('visibilitychange', look);
  look();
});

function isGone(text) {
  say($('#state'), text);
  $('#state').className = 'off';
}

async function watch(stop, heard) {
  const answer = await ask('/page/live', {headers: headers(), signal: stop.signal});
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = '';;) {
    const {value, done} = await reader.read();
    if (done) return;
    heard();
    text += value;
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      if (!text.startsWith('data: ')) continue;
      const now = JSON.parse(text.slice(6, end));
      say($('#state'), 'live');
      $('#state').className = '';
      $('#token').hidden = true;
      try {
        show(now);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

async function live() {
  for (let pause = 500;; pause = Math.min(2 * pause, 8000)) {
    await visible();
    const stop = stream = new AbortController();
    let silent = setTimeout(() => stop.abort(), silence);
    const heard = () => {
      clearTimeout(silent);
      silent = setTimeout(() => stop.abort(), silence);
      pause = 500;
    };
    try {
      await watch(stop, heard);
    } catch (error) {
      if (error.status === 401 || error.status === 403) isGone(error.message);
      if (error.status === 401) {
        store.removeItem('mesh-token');
        $('#token').hidden = false;
        // Whoever said no is not asked again.
        if (!declined) declined = !await askForToken(why401);
        if (token()) pause = 100;
      }
    }
    clearTimeout(silent);
    stop.abort();
    if (!$('#state').className) isGone('not connected: trying again; what is below is from before');
    await Promise.race([wait(pause), new Promise((done) => { tryNow = done; })]);
  }
}

let typed;
$('#find').addEventListener('input', () => {
  clearTimeout(typed);
  typed = setTimeout(() => {
    finding = $('#find').value.trim();
    files.details.clear();
    files.load();
    nodes.load();
  }, 250);
});
$('#search').addEventListener('submit', (event) => event.preventDefault());
$('#files .more').addEventListener('click', () => files.load(files.next));
$('#nodes .more').addEventListener('click', () => nodes.load(nodes.next));
$('#ask .no').addEventListener('click', () => $('#ask').close(''));
$('#nodes .cache').addEventListener('click', () => order('drop-cache', {}, (done) => 'Dropped; ' + bytes(done.bytes) + ' are in use.'));
$('#gets form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = $('#what');
  const what = field.value.trim();
  if (!what) return;
  // Another can be written meanwhile.
  field.value = '';
  order('get', {whats: [what]}, () => state.name + ' gets it.').then((well) => { if (!well && !field.value) field.value = what; });
});
live();
