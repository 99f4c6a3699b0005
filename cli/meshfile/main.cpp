// meshfile: what is in the mesh, and what is going on. Parse, call, print.
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <csignal>

#include "client.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "core/node_ranges.h"
#include "core/url.h"
#include "meshfile/commands.h"
#include "progress_view.h"

using namespace mesh;
using namespace mesh::meshfile;

int main(int argc, char** argv) {
  return guarded("meshfile", [&] {
    CLI::App app("Shows what is in the mesh and what is going on in it, and has nodes get, delete and stream files.",
                 "meshfile");
    CommonOptions options;
    Asked asked;
    add_common(app, options);
    // A node's settings are the configuration file's, for when this starts one.
    std::string hash = "ondemand";
    const auto shown = app.get_options();
    add_node(app, options, hash);
    add_user(app, options.node.user);
    for (auto* option : app.get_options())
      if (std::ranges::find(shown, option) == shown.end()) option->group("");
    under(app, "Options");
    app.add_flag("--json", asked.as_json, "JSON on stdout");
    app.fallthrough();
    const auto add_on = [&](CLI::App* command, const char* help) {
      command->add_option("--on", asked.on, help)->type_name("all|others|NODE,n[1-3]")->allow_extra_args(false);
    };
    auto* list_command = app.add_subcommand(
        "list", "What a directory, or the whole mesh, holds: size, time, number of nodes that have it");
    list_command
        ->add_option("PATH", asked.path,
                     "A path, directory or glob (default: /), or an s3:// or swift:// URL: what is in the store")
        ->default_str("/");
    list_command->add_flag("-r,--recursive", asked.recursive, "With everything below");
    list_command->add_flag("--local", asked.local, "Only this node's files");
    auto* get_command = app.add_subcommand("get", "Has this node get files, and returns at once");
    add_get(*get_command, asked.get);
    add_url(*get_command, asked.get, asked.cacert);
    int active = 0;
    add_limits(*get_command, asked.get.max_down, asked.get.max_up, active);
    add_on(get_command, "Have other nodes get them: all, others (all but this one), or these");
    auto* wait_command = app.add_subcommand("wait", "Waits until gets are done, and says how they ended");
    wait_command->add_option("WHAT", asked.whats, "As it was asked for, or a file of it (default: every get)");
    wait_command->add_flag("--quiet", asked.quiet, "No progress");
    add_on(wait_command, "Wait for what other nodes get: all, others (all but this one), or these");
    auto* cancel_command = app.add_subcommand("cancel", "Stops getting files; what has arrived is kept");
    cancel_command->add_option("WHAT", asked.whats, "What is not wanted any more")->required();
    cancel_command->add_flag("--discard", asked.discard, "Drop what has arrived as well");
    add_on(cancel_command, "On other nodes: all, others (all but this one), or these");
    auto* delete_command = app.add_subcommand("delete", "Deletes files, globs, directories with all below");
    delete_command
        ->add_option("WHAT", asked.whats,
                     "A path, directory or glob; / empties the files directory; or one object by its s3:// or swift:// "
                     "URL, in its store")
        ->required();
    delete_command->add_flag("--mesh", asked.mesh, "On every node that has it");
    add_on(delete_command, "On other nodes: all, others (all but this one), or these");
    delete_command->add_flag("--force", asked.force,
                             "Also what somebody has open for writing, a running VM's disk say");
    auto* put_command = app.add_subcommand(
        "put",
        "Puts a file of this node into an object store, whole, and prints its URL; there must be none there yet");
    put_command->add_option("PATH", asked.path, "The file")->required();
    put_command->add_option("URL", asked.url, "s3://[STORE@]BUCKET/KEY or swift://; with '/' at its end: below that")
        ->required();
    put_command->add_flag("--force", asked.force, "Replace what is there");
    put_command->add_flag("--quiet", asked.quiet, "No progress");
    auto* stream_command = app.add_subcommand(
        "stream", "Writes a file to stdout while it arrives, without putting it into the files directory");
    stream_command->add_option("PATH", asked.path, "The file")->required();
    stream_command->add_option("--from", asked.stream.from, "Only this node's version")->type_name("NODE");
    stream_command->add_flag("--strict", asked.stream.strict, "Several versions of the path are an error");
    stream_command
        ->add_option("--spool", asked.stream.spool, "Keep at most this much on the disk at once (default: the file)")
        ->transform(CLI::AsSizeValue(true).description(""))
        ->type_name("SIZE");
    auto* status_command = app.add_subcommand("status", "This node's gets and transfers");
    status_command->add_flag("--mesh", asked.mesh, "Every node's");
    status_command->add_flag("--watch", asked.watch, "Again every second");
    auto* info_command =
        app.add_subcommand("info", "A path's versions, candidates and holders; * marks what a get brings");
    info_command->add_option("PATH", asked.path)->required();
    auto* diff_command = app.add_subcommand(
        "diff", "How many bytes of a file a get would fetch, and how many of it are here already: PATH FETCH REUSE");
    diff_command->add_option("PATH", asked.path)->required();
    diff_command
        ->add_option("SEED", asked.get.seeds,
                     "Files here that may have some of the bytes, beside those that are likely to")
        ->expected(0, 4);
    auto* cache_command = app.add_subcommand(
        "cache", "What this node keeps of files that were read and not got (over HTTP, say), and how much it may be");
    cache_command->add_flag("--drop", asked.drop, "Drop what nobody reads at the moment");
    auto* doctor_command = app.add_subcommand(
        "doctor",
        "What is amiss with this node, this machine and the way to the others, and what mends it: a line LEVEL, CHECK, "
        "WHAT, MEND each, with tabs between");
    auto* torrent_command = app.add_subcommand("torrent",
                                               "Writes NAME.torrent, with which other BitTorrent clients can download "
                                               "the file from the mesh, and prints its path");
    torrent_command->add_option("PATH", asked.path)->required();
    torrent_command->add_option("-o,--output", asked.output, "Write to FILE (- is stdout)")->type_name("FILE");
    torrent_command
        ->add_option(
            "--for", asked.seconds,
            "A guest torrent: anybody who has it can download the file, from this node alone, for so long (90s, "
            "30m, 1h, 7d; at most 30d)")
        ->transform(
            CLI::AsNumberWithUnit(std::map<std::string, std::int64_t>{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}},
                                  CLI::AsNumberWithUnit::UNIT_REQUIRED))
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{30} * 86400).description(""))
        ->type_name("TIME");
    // For the shells' completion; not for people.
    auto* complete_command = app.add_subcommand("complete", "")->group("");
    complete_command->add_option("WORD", asked.path);
    complete_command->add_flag("--local", asked.local);
    app.footer(
        "list, info, torrent and what is done on other nodes ask the node of the files directory, or, where none "
        "runs,\n"
        "the tracker. meshfile COMMAND --help says more.\n\n"
        "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 no tracker or node reachable, 5 refused, 130 stopped.");
    for (auto* command : app.get_subcommands({})) command->fallthrough();
    app.require_subcommand(0, 1);
    app.allow_extras();
    try {
      if (const int status = parse(app, options, argc, argv); status >= 0) return status;
    } catch (const Error& error) {
      if (!doctor_command->parsed()) throw;
      return static_cast<int>(diagnose_configuration(error, asked.as_json));
    }
    if (const auto extra = app.remaining(); app.get_subcommands().empty())
      throw Error(Status::usage, (extra.empty() ? "say what to do" : "'" + printable(extra[0]) + "' is no command") +
                                     " (meshfile --help lists the commands)");
    else if (!extra.empty())
      throw Error(Status::usage, printable(extra[0]) + ": is not expected here (meshfile " +
                                     app.get_subcommands().front()->get_name() + " --help shows the usage)");
    std::vector<std::string> on;
    for (const auto& list : asked.on)
      for (auto& name : expand_nodes(list)) on.push_back(std::move(name));
    asked.on = std::move(on);
    if (asked.path.empty() && !complete_command->parsed()) asked.path = "/";
    asked.get.max_active = active;
    std::error_code ec;
    options.node.files = std::filesystem::absolute(options.node.files, ec).lexically_normal();
    for (const auto& what : asked.get.whats) static_cast<void>(parse_what(what, files_dir(options.node)));
    for (const auto& what : asked.whats) static_cast<void>(parse_what(what, files_dir(options.node)));
    asked.get.ca = read_ca(asked.cacert);
    std::signal(SIGPIPE, SIG_DFL);
    if (stream_command->parsed() && ::isatty(STDOUT_FILENO) == 1)
      throw Error(Status::usage, "stream: stdout is a terminal; send it to a file or a program");
    std::optional<HeldNode> held;
    // These need a node: where none runs, this is the time to start one.
    if (stream_command->parsed() || (get_command->parsed() && asked.on.empty())) {
      options.node.linger_seconds = 30;
      options.node.hash_eagerly = hash == "eager";
      held.emplace(options.node, get_command->parsed() && std::ranges::all_of(asked.get.whats, is_url));
    }
    asio::io_context io(1);
    ProgressView view(asked.quiet || asked.as_json);
    const auto outcomes = std::make_shared<std::vector<GetOutcome>>();
    Handlers handlers;
    handlers.on_note<Progress>([&](const ChannelPtr&, Progress progress) { view.show(progress); });
    handlers.on_note<Outcomes>([&](const ChannelPtr&, Outcomes page) {
      view.clear();
      for (auto& one : page.outcomes) outcomes->push_back(std::move(one));
    });
    const auto& node = options.node;
    auto work = list_command->parsed()       ? list(node, asked, handlers)
                : get_command->parsed()      ? get(node, asked, handlers)
                : wait_command->parsed()     ? wait(node, asked, handlers, outcomes)
                : cancel_command->parsed()   ? cancel(node, asked, handlers)
                : delete_command->parsed()   ? remove(node, asked, handlers)
                : put_command->parsed()      ? put(node, asked, handlers)
                : stream_command->parsed()   ? stream(node, asked, handlers)
                : status_command->parsed()   ? status(node, asked, handlers)
                : cache_command->parsed()    ? cache(node, asked, handlers)
                : doctor_command->parsed()   ? doctor(node, asked, handlers)
                : diff_command->parsed()     ? diff(node, asked, handlers)
                : info_command->parsed()     ? info(node, asked, handlers)
                : complete_command->parsed() ? complete(node, asked, handlers)
                                             : torrent(node, asked, handlers);
    const auto status = static_cast<int>(*run_to_end(io, std::move(work)));
    view.clear();
    leave("meshfile", status);
  });
}
