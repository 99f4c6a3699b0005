#!/usr/bin/env python3
"""The page of a mesh in Debian's Chromium, headless, by WebDriver. Skipped (status 77) where chromedriver is not there.

    page_test.py MANY_NODES [BIN_DIR]        the programs are in $MESH_BIN, else in BIN_DIR
    MESH_PAGE_SHOTS=DIR                      leaves screenshots there
"""
import base64
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MANY = sys.argv[1] if len(sys.argv) > 1 else None
BIN = Path(os.environ.get("MESH_BIN") or (sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/bin"))
MB = 1 << 20
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def eventually(look, limit=30):
    deadline = time.monotonic() + limit
    while True:
        out = look()
        if out or time.monotonic() > deadline:
            return out
        time.sleep(0.1)


class Browser:
    """As much of W3C WebDriver as this takes."""

    def __init__(self, home):
        self.port = free_port()
        # Its driver kills it, and leaves its children: by their group they end with it.
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
        if not eventually(self.answers):
            raise RuntimeError("chromedriver does not answer")
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={home}",
                     "--force-color-profile=srgb", "--lang=en"]
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}})["sessionId"]
        self.at = f"/session/{self.session}"

    def answers(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def call(self, method, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        value = json.loads(link.getresponse().read())["value"]
        link.close()
        if isinstance(value, dict) and value.get("error"):
            raise RuntimeError(f"{path}: {value['error']}: {value['message'].splitlines()[0]}")
        return value

    def open(self, url):
        self.call("POST", self.at + "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.at + "/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        return self.call("POST", self.at + "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def text(self, selector):
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector)

    def click(self, selector):
        self.call("POST", f"{self.at}/element/{self.element(selector)}/click", {})

    def type(self, selector, text):
        self.call("POST", f"{self.at}/element/{self.element(selector)}/value", {"text": text})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", self.at + "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def size(self, width, height):
        self.call("POST", self.at + "/window/rect", {"width": width, "height": height})

    def emulate(self, command, values):
        self.call("POST", self.at + "/goog/cdp/execute", {"cmd": command, "params": values})

    def shot(self, name):
        where = os.environ.get("MESH_PAGE_SHOTS")
        if where:
            (Path(where) / name).write_bytes(base64.b64decode(self.call("GET", self.at + "/screenshot")))

    def complaints(self):
        return [one["message"] for one in self.call("POST", self.at + "/se/log", {"type": "browser"}) if one["level"] == "SEVERE"]

    def close(self):
        try:
            self.call("DELETE", self.at)
        except Exception:
            pass
        os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()


class Mesh:
    def __init__(self, home):
        self.home = home
        self.running = {}
        self.tracker = free_port()
        self.tracker_http = free_port()
        self.http = free_port()
        self.start("tracker", ["meshtracker", "--listen", f"127.0.0.1:{self.tracker}", "--http", f"127.0.0.1:{self.tracker_http}"])
        assert eventually(self.has_tracker)

    def start(self, name, command):
        with open(self.home / f"{name}.log", "ab") as log:
            self.running[name] = subprocess.Popen([BIN / command[0], *command[1:]], stdout=log, stderr=log)

    def has_tracker(self):
        try:
            return self.ask("/status.json", port=self.tracker_http)[0] == 200
        except OSError:
            return False

    def files(self, name):
        out = self.home / name
        out.mkdir(exist_ok=True)
        return out

    def node(self, name, *more):
        log = self.home / f"{name}.log"
        before = log.read_text().count(": registered") if log.exists() else 0
        self.start(name, ["meshseed", "--files", str(self.files(name)), "--name", name, "--listen", "127.0.0.1:0",
                          "--tracker", f"127.0.0.1:{self.tracker}", *more])
        assert eventually(lambda: log.read_text().count(": registered") > before), log.read_text()

    def reader(self):
        self.node("reader", "--http", f"127.0.0.1:{self.http}", *[flag for what in ("get", "cancel", "delete") for flag in ("--http-allow", what)])

    def token(self):
        return (self.files("reader") / ".mesh" / "http-token").read_text().strip()

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def ask(self, path, method="GET", body=None, port=None, **headers):
        link = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=30)
        link.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = link.getresponse()
        out = answer.status, answer.read().decode(), dict(answer.getheaders())
        link.close()
        return out

    def close(self):
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = Path(tempfile.mkdtemp(prefix="meshswarm-page-"))
        cls.browser = Browser(cls.home / "browser")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        shutil.rmtree(cls.home, True)

    def setUp(self):
        home = self.home / self.id().split(".")[-1]
        home.mkdir()
        self.browser.open("about:blank")
        self.browser.complaints()  # of the test before
        self.mesh = Mesh(home)
        self.addCleanup(self.mesh.close)

    def begin(self, rate="3M"):
        (self.mesh.files("source") / "vm").mkdir()
        (self.mesh.files("source") / "vm" / "base.img").write_bytes(os.urandom(40 * MB))
        self.mesh.node("source", "--max-up", rate)
        self.mesh.reader()

    def show(self, fragment=""):
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{self.mesh.http}/{fragment}")
        self.shows("#state", "live")

    def shows(self, selector, text, limit=30):
        said = eventually(lambda: (lambda now: now if text in now else None)(self.browser.text(selector)), limit)
        self.assertTrue(said, f"{selector}: {self.browser.text(selector)!r} has no {text!r}")
        return said

    def hides(self, selector, text, limit=30):
        self.assertTrue(eventually(lambda: text not in self.browser.text(selector), limit), self.browser.text(selector))

    def test_a_get_is_started_watched_cancelled_and_its_file_deleted(self):
        self.begin("1M")
        others = [f"n{i}" for i in range(1, 5)]
        for name in others:
            self.mesh.node(name)
        self.browser.size(1200, 1400)
        self.show("#token=" + self.mesh.token())
        # It stands in no address, and no page that is left says it.
        self.assertNotIn("token", self.browser.run("return location.href"))
        self.shows("#who", "6 nodes")
        self.shows("#nodes", "source")
        self.browser.type("#what", "vm/base.img")
        self.browser.click("#gets form button")
        self.shows("#said", "reader gets it")
        subprocess.run([BIN / "meshfile", "--files", str(self.mesh.files("source")), "get", "--on", ",".join(others), "vm/base.img"],
                       stdout=subprocess.DEVNULL, check=True)
        for name in others:
            self.shows("#moving", name)
        self.shows("#moving", "from source")
        self.shows("#moving", "to 5 nodes")
        self.shows("#moving", "/s in all")
        # Of nodes by their names, whoever connected to whom.
        self.assertTrue(eventually(lambda: re.search(r"from .*(n\d|reader) \d", self.browser.text("#moving"))), self.browser.text("#moving"))
        bar = "return Number(document.querySelector('#moving .bar').getAttribute('aria-valuenow'))"
        before = self.browser.run(bar)
        self.assertTrue(eventually(lambda: self.browser.run(bar) > before))
        self.assertGreater(self.browser.run("return document.querySelector('#moving .bar canvas').width"), 10)
        self.shows("#hour .legend", "MB")
        self.browser.shot("page.png")
        self.browser.emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        self.browser.shot("page-dark.png")
        self.browser.emulate("Emulation.setEmulatedMedia", {"features": []})
        self.browser.click("#gets .get button:not([hidden])")
        self.shows("#said", "Cancelled")
        self.hides("#gets", "reader:")
        # To the end, then, by itself.
        for name in others:
            self.mesh.kill(name)
        self.mesh.kill("source")
        self.mesh.node("source")
        self.shows("#nodes", "source")
        self.browser.run("for (const b of document.querySelectorAll('#files tbody button')) if (b.innerText === 'vm/') b.click()")
        self.shows("#files tbody", "base.img")
        self.browser.click("#files tbody tr button")
        self.shows("#files .details", "What a get brings")
        self.browser.run("for (const b of document.querySelectorAll('.details button')) if (b.innerText === 'Get it here') b.click()")
        self.shows("#files tbody", "2 of 2", 60)
        here = self.mesh.files("reader") / "vm" / "base.img"
        self.assertEqual(here.stat().st_size, 40 * MB)
        self.browser.run("for (const b of document.querySelectorAll('.details button')) if (b.innerText === 'Delete it here') b.click()")
        self.shows("#ask-text", "Delete vm/base.img from reader?")
        self.browser.press("\ue007")  # which is no, where the focus is
        self.assertFalse(self.browser.run("return document.querySelector('#ask').open"))
        self.assertTrue(here.exists())
        self.browser.run("for (const b of document.querySelectorAll('.details button')) if (b.innerText === 'Delete it here') b.click()")
        self.assertTrue(eventually(lambda: self.browser.run("return document.querySelector('#ask').open")))
        self.browser.click("#ask .yes")
        self.assertTrue(eventually(lambda: not here.exists()))
        self.shows("#files tbody", "1 of 2", 60)
        self.assertEqual(self.browser.complaints(), [])

    def test_errors_show_with_what_mends_them_and_a_restart_is_survived(self):
        self.begin()
        self.show("#token=" + self.mesh.token())
        self.browser.type("#what", "no/such.img\ue007")
        # At once, or, where it takes longer than a moment, as a get that failed.
        said = lambda: self.browser.text("#said") + self.browser.text("#warnings")
        self.assertTrue(eventually(lambda: "no/such.img: not found on any" in said()), said())
        # Nobody is there: it is tried again and again. What failed is there to be corrected.
        self.browser.run("document.querySelector('#what').value = ''")
        self.browser.type("#what", f"http://127.0.0.1:{free_port()}/no/such.img")
        self.browser.click("#gets form button")
        self.shows("#warnings", "a get waits: http://127.0.0.1", 60)
        self.shows("#warnings", "Mend:")
        self.mesh.kill("reader")
        self.shows("#state", "not connected")
        self.mesh.reader()
        self.shows("#state", "live")
        # The token is still known.
        self.browser.type("#what", "vm/*.img")
        self.browser.click("#gets form button")
        self.shows("#gets .list", "vm/*.img")
        self.shows("#moving", "base.img")
        self.mesh.kill("source")
        self.shows("#warnings", "source: was in the mesh, and is not now", 60)
        # Without the token nothing is done, and a wrong one is no token.
        self.browser.run("sessionStorage.clear()")
        self.browser.click("#gets .get button:not([hidden])")
        self.shows("#ask-text", "needs the token")
        self.browser.type("#ask input", "0123456789abcdef0123\ue007")
        self.shows("#said", "not the token")
        self.shows("#gets", "base.img")

    def test_names_are_text_whoever_made_them(self):
        files = self.mesh.files("source")
        names = ["<img src=x onerror=alert(1)>", "<script>document.title='x'<", "a\u202egpj.exe", "n" * 255, "two words", "tab\there", "%2e%2e"]
        for name in names:
            (files / name).write_text("x")
        self.mesh.node("source")
        self.mesh.reader()
        self.browser.size(420, 900)
        self.show("#token=" + self.mesh.token())
        said = self.shows("#files tbody", "two words")
        for text in ("<img src=x onerror=alert(1)>", "<script>", "a\\u{202e}gpj.exe", "n" * 255, "tab\\x09here", "%2e%2e"):
            self.assertIn(text, said)
        self.assertEqual(self.browser.run("return document.querySelectorAll('main img, main script, main iframe').length"), 0)
        # Nothing is cut off at the side, of the page or of the list.
        self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth - window.innerWidth"), 0)
        # What is asked for by such a name is that file.
        self.browser.run("for (const b of document.querySelectorAll('#files tbody button')) if (b.innerText.startsWith('tab')) b.click()")
        self.shows("#files .details", "What a get brings")
        self.browser.run("for (const b of document.querySelectorAll('.details button')) if (b.innerText === 'Get it here') b.click()")
        self.assertTrue(eventually(lambda: (self.mesh.files("reader") / "tab\there").exists()))
        self.browser.type("#find", "TWO")
        self.hides("#files tbody", "gpj")
        self.shows("#files tbody", "two words")
        self.assertEqual(self.browser.complaints(), [])

    def test_by_keyboard_and_for_screen_readers(self):
        self.begin()
        self.browser.size(400, 800)
        self.show("#token=" + self.mesh.token())
        self.shows("#files tbody", "vm/")
        self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth - window.innerWidth"), 0)
        self.browser.shot("page-400.png")
        # All that can be pressed is reached by the tab key, shows that it is, and has a name.
        seen = []
        for _ in range(40):
            self.browser.press("\ue004")
            now = self.browser.run("""const e = document.activeElement;
                if (!e || e === document.body) return null;
                const name = e.getAttribute('aria-label') || (e.labels && e.labels.length ? e.labels[0].innerText : '') || e.innerText;
                return [e.tagName + '#' + e.id + ' ' + name.trim(), name.trim() !== '', getComputedStyle(e).outlineStyle]""")
            if now is None or (seen and now[0] == seen[0]):
                break
            seen.append(now[0])
            self.assertTrue(now[1], now)
            self.assertNotEqual(now[2], "none", now)
        for wanted in ("To the content", "Find files", "Get", "vm/"):
            self.assertTrue(any(wanted in one for one in seen), (wanted, seen))
        # And by the enter key.
        self.browser.run("for (const b of document.querySelectorAll('#files tbody button')) if (b.innerText === 'vm/') b.focus()")
        self.browser.press("\ue007")
        self.shows("#files tbody", "base.img")
        for section in ("warnings", "moving", "hour", "gets", "files", "nodes"):
            role = self.browser.call("GET", f"{self.browser.at}/element/{self.browser.element('#' + section)}/computedrole")
            self.assertEqual(role, "region")
        for scheme, sheet in self.colours().items():
            for front, least in (("ink", 4.5), ("soft", 4.5), ("accent", 4.5), ("fault", 4.5), ("warn", 4.5), ("good", 4.5), ("bar", 3)):
                for back in ("card", "ground"):
                    self.assertGreaterEqual(contrast(sheet[front], sheet[back]), least, (scheme, front, back))

    def colours(self):
        text = (ROOT / "src/page/assets/page.css").read_text()
        blocks = re.findall(r":root \{(.*?)\}", text, re.S)
        self.assertEqual(len(blocks), 2)
        return {scheme: dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", block)) for scheme, block in zip(("light", "dark"), blocks)}

    def test_pages_of_others_and_those_without_the_token_get_nothing_done(self):
        self.begin()
        # What is to be deleted is one path, whatever it looks like, also when that has gone meanwhile.
        keep = self.mesh.files("reader") / "keep.txt"
        keep.write_text("x")
        order = json.dumps({"paths": ["keep.txt"]})
        good = {"Authorization": "Bearer " + self.mesh.token(), "Content_Type": "application/json"}
        host = f"127.0.0.1:{self.mesh.http}"
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Content_Type="application/json")[0], 401)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Content_Type="application/json", Authorization="Bearer " + "0" * 64)[0], 401)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Content_Type="application/json", Cookie="token=" + self.mesh.token())[0], 401)
        self.assertEqual(self.mesh.ask("/page/delete?token=" + self.mesh.token(), "POST", order, Content_Type="application/json")[0], 401)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Origin="http://evil.example", **good)[0], 403)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Sec_Fetch_Site="cross-site", **good)[0], 403)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Sec_Fetch_Site="same-site", **good)[0], 403)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Host="evil.example", **good)[0], 403)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, **{**good, "Content_Type": "text/plain"})[0], 415)
        self.assertEqual(self.mesh.ask("/page/delete", "GET", **good)[0], 405)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", "x" * 70_000, **good)[0], 413)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", "[]", **good)[0], 400)
        self.assertEqual(self.mesh.ask("/page/drop-cache", "POST", "{}", **good)[0], 403)
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, port=self.mesh.tracker_http, **good)[0], 400)
        self.assertEqual(self.mesh.ask("/page/live", Sec_Fetch_Site="cross-site")[0], 403)
        self.assertEqual(self.mesh.ask("/page/live", Host="evil.example")[0], 403)
        # A link from elsewhere leads to the page, and to nothing else; nobody frames it, and no script but its own runs.
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        status, _, fields = self.mesh.ask("/", **link)
        self.assertEqual(status, 200)
        self.assertIn("script-src 'self'", fields["Content-Security-Policy"])
        self.assertNotIn("unsafe-inline", fields["Content-Security-Policy"])
        self.assertIn("frame-ancestors 'none'", fields["Content-Security-Policy"])
        self.assertEqual(self.mesh.ask("/", **{**link, "Sec_Fetch_Dest": "iframe"})[0], 403)
        self.assertEqual(self.mesh.ask("/page/nodes", **link)[0], 403)
        # What members put there runs nowhere.
        (self.mesh.files("source") / "evil.html").write_text("<script>document.title='x'</script>")
        self.assertTrue(eventually(lambda: self.mesh.ask("/files/evil.html")[0] == 200))
        fields = self.mesh.ask("/files/evil.html")[2]
        self.assertIn("sandbox", fields["Content-Security-Policy"])
        self.assertNotIn("allow-scripts", fields["Content-Security-Policy"])
        self.assertIn("attachment", fields["Content-Disposition"])
        # A real page of elsewhere, in a browser of this user, with all that it can do.
        evil = f"""<script>
            const at = 'http://{host}', out = [];
            const tries = [fetch(at + '/page/delete', {{method: 'POST', mode: 'no-cors', body: '{order}'}}),
              fetch(at + '/page/delete', {{method: 'POST', headers: {{'Content-Type': 'application/json', Authorization: '{good["Authorization"]}'}}, body: '{order}'}}),
              fetch(at + '/page/live'), fetch(at + '/page/nodes', {{mode: 'no-cors'}}).then((r) => r.text())];
            Promise.allSettled(tries).then((all) => document.title = all.map((one) => one.status + ':' + (one.value && one.value.type || one.value || '')).join(' '));
            </script><iframe src="http://{host}/"></iframe>""".encode()

        class Evil(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(evil)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        self.browser.open(f"http://127.0.0.1:{server.server_port}/")
        title = eventually(lambda: self.browser.run("return document.title"))
        self.assertEqual(title.split(), ["rejected:"] * 4, title)
        self.assertNotIn("source", title)
        self.assertTrue(keep.exists())
        self.assertEqual(self.mesh.ask("/page/delete", "POST", order, Origin=f"http://{host}", Sec_Fetch_Site="same-origin", **good)[0], 200)
        self.assertTrue(eventually(lambda: not keep.exists()))
        keep.write_text("x")
        self.mesh.kill("tracker")
        for path in ("*", "**", "k%2A"):
            answer = json.loads(self.mesh.ask("/page/delete", "POST", json.dumps({"paths": [path]}), **good)[1])
            self.assertFalse(answer["ok"], path)
        self.assertTrue(keep.exists())
        # Of the token nothing is in a log.
        for log in self.mesh.home.glob("*.log"):
            self.assertNotIn(self.mesh.token(), log.read_text())

    def test_a_thousand_nodes_and_a_hundred_thousand_files(self):
        many = subprocess.Popen([MANY, f"127.0.0.1:{self.mesh.tracker}", "1000", "100", "400"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(many.stdout.close)
        self.addCleanup(many.wait)
        self.addCleanup(many.kill)
        self.assertEqual(many.stdout.readline(), "ready\n")
        self.mesh.http = self.mesh.tracker_http
        self.browser.size(1200, 1400)
        self.browser.open("about:blank")
        self.browser.open(f"http://127.0.0.1:{self.mesh.http}/")
        self.shows("#state", "live", 60)
        self.shows("#who", "1000 nodes", 60)
        self.shows("#moving", "to 400 nodes", 60)
        self.shows("#moving", "and 376 more nodes")
        bars = "return document.querySelectorAll('#moving .row').length"
        self.assertEqual(self.browser.run(bars), 24)
        self.browser.click("#moving .more")
        self.assertTrue(eventually(lambda: self.browser.run(bars) == 400), self.browser.run(bars))
        self.browser.click("#moving .more")
        self.shows("#nodes tbody", "n0099")
        rows = "return document.querySelectorAll(arguments[0]).length"
        self.assertEqual(self.browser.run(rows, "#nodes tbody tr"), 100)
        self.browser.click("#nodes .more")
        self.shows("#nodes tbody", "n0199")
        self.browser.type("#find", "n0777")
        self.hides("#nodes tbody", "n0199")
        self.shows("#nodes tbody", "n0777")
        self.shows("#files tbody", "n0777/file-0000")
        self.browser.shot("page-1000.png")
        for path in ("/page/nodes", "/page/files", "/page/files?path=images", "/page/files?find=file", "/page/swarm?path=images%2Fbase.img",
                     "/page/file?path=images%2Fn0000%2Ffile-0000.qcow2"):
            status, body, _ = self.mesh.ask(path)
            self.assertEqual(status, 200, path)
            self.assertLess(len(body.encode()), 200_000, path)
        self.assertTrue(json.loads(self.mesh.ask("/page/files?find=file")[1])["next"])
        # Through all of it, page by page.
        seen, after = 0, ""
        while True:
            page = json.loads(self.mesh.ask("/page/nodes?after=" + after)[1])
            seen += len(page["rows"])
            after = page["next"]
            if not after:
                break
        self.assertEqual(seen, 1000)
        link = http.client.HTTPConnection("127.0.0.1", self.mesh.http, timeout=60)
        link.request("GET", "/page/live")
        with link.getresponse() as answer:
            line = answer.readline()
        link.close()
        self.assertLess(len(line), 200_000)
        self.assertEqual(json.loads(line[6:])["nodes"], 1000)


def contrast(one, other):
    """WCAG 2.1, 1.4.3."""
    def light(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
        parts = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    a, b = sorted((light(one), light(other)))
    return (b + 0.05) / (a + 0.05)


if __name__ == "__main__":
    if not shutil.which("chromedriver") or not shutil.which("chromium"):
        print("SKIPPED: chromium-driver and chromium are not here")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
