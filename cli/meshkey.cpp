// meshkey: makes and names mesh keys. Parse, call, print.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "key_init.h"
#include "options.h"
#include "version.h"
#include "wire/mesh_key.h"

int main(int argc, char** argv) {
  using namespace mesh;
  return guarded("meshkey", [&] {
    CLI::App app("Makes mesh keys: who has a mesh's key is a member of it, and nobody else is.", "meshkey");
    app.get_formatter()->column_width(34);
    app.require_subcommand(1);
    std::string file;
    auto* make = app.add_subcommand("new", "Prints a new key: meshkey new > mesh.key");
    auto* show =
        app.add_subcommand("show", "Prints the names of a file's keys, which are no secret, and its announce token");
    show->add_option("FILE", file, "A key file")->required();
    KeyInit start;
    auto* init = app.add_subcommand(
        "init", "On the head node of a new mesh: makes the key and the configuration, and says what to do next");
    init->add_option("--dir", start.directory, "Where they go (default: /etc/mesh for root, else ~/.config)")
        ->type_name("DIR");
    init->add_option("--tracker", start.tracker,
                     "The tracker, as the other nodes reach it (default: this host's name, port 6969)")
        ->type_name("HOST:PORT");
    app.set_version_flag("--version", std::string(MESH_VERSION));
    app.footer(
        "Give the file to every program as --key FILE, or in MESH_KEY, and copy it to every node; others must not be\n"
        "able to read it. A file may hold up to four keys, one a line: the first is used, the others are accepted,\n"
        "too. To change keys without stopping the mesh, add the new one as the second line on every node, restart\n"
        "them one by one, swap the lines, restart, and take the old one away.\n\n"
        "Exit status: 0 done, 1 failed, 2 usage.");
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app.exit(error);
      say("meshkey", std::string(error.what()) + " (meshkey --help shows the usage)");
      return static_cast<int>(Status::usage);
    }
    if (make->parsed()) {
      // As a shell's > makes it, others could read it.
      struct stat s {};
      if (::fstat(STDOUT_FILENO, &s) == 0 && S_ISREG(s.st_mode) && ::fchmod(STDOUT_FILENO, 0600) != 0)
        throw Error(Status::failed, "cannot keep others from reading the key's file (chmod 600)");
      std::printf("%s\n", new_key_line().c_str());
    } else if (init->parsed()) {
      init_mesh(start);
    } else if (show->parsed()) {
      const auto keys = read_keys(file);
      for (const auto& key : keys->all())
        std::printf("%s%s  announce token %s\n", key.name.c_str(), &key == &keys->first() ? " (used)" : "       ",
                    key.token.c_str());
      for (const auto& head : keys->heads()) std::printf("head %s\n", head.c_str());
    }
    return 0;
  });
}
