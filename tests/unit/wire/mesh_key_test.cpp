#include "wire/mesh_key.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "test.h"

using namespace mesh;

namespace {

Digest<32> secret(char fill) {
  Digest<32> out;
  out.bytes.fill(fill);
  return out;
}

std::string line(char digit) { return "meshswarm-key-1 " + std::string(64, digit); }

std::string fault_of(const std::string& text) {
  try {
    static_cast<void>(parse_keys(text, "k"));
  } catch (const Error& error) {
    CHECK(error.status() == Status::usage);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("mesh keys: all members make the same of a key, and of another one nothing that is alike") {
  const MeshKeys one({secret(1)});
  const MeshKeys same({secret(1)});
  const MeshKeys other({secret(2), secret(1)});
  CHECK(one.first().name == same.first().name);
  CHECK(one.first().channel == same.first().channel);
  CHECK(one.first().authority == same.first().authority);
  CHECK(one.first().token == same.first().token);
  CHECK(one.first().certificate != same.first().certificate);
  CHECK(one.first().name != other.first().name);
  CHECK(one.first().channel != other.first().channel);
  CHECK(one.first().channel != one.first().discover);
  CHECK(one.first().authority != other.first().authority);
  CHECK(one.first().token != other.first().token);
  CHECK(other.find(one.first().name) == &other.all()[1]);
  CHECK(one.find(other.first().name) == nullptr);
  CHECK(one.find("") == nullptr);
  CHECK(other.is_token(one.first().token));
  CHECK_FALSE(one.is_token(other.first().token));
  CHECK_FALSE(one.is_token(""));
  CHECK(dh_parameters().find("BEGIN DH PARAMETERS") != std::string::npos);
}

TEST_CASE("mesh keys: key files") {
  CHECK(parse_keys(line('0') + "\n# old\n\n" + line('f') + "\r\n", "k").size() == 2);
  const auto made = new_key_line();
  CHECK(made != new_key_line());
  CHECK(parse_keys(made, "k").size() == 1);
  CHECK(fault_of("").find("meshkey new") != std::string::npos);
  CHECK(fault_of("# nothing\n").find("has no mesh key") != std::string::npos);
  CHECK(fault_of(line('0') + "\n" + line('g')).find("line 2") != std::string::npos);
  CHECK(fault_of(line('A')).find("line 1") != std::string::npos);
  CHECK(fault_of(line('0') + "0").find("line 1") != std::string::npos);
  CHECK(fault_of(line('1') + "\n" + line('1')).find("same key") != std::string::npos);
  std::string many;
  for (const char digit : {'1', '2', '3', '4', '5'}) many += line(digit) + "\n";
  CHECK(fault_of(many).find("more than 4") != std::string::npos);
}

TEST_CASE("mesh keys: a file that others could read is refused, with the mend") {
  std::string name = (std::filesystem::temp_directory_path() / "meshswarm-key-XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream(name) << line('7') << "\n";
  const auto refusal = [&]() -> std::string {
    try {
      static_cast<void>(read_keys(name));
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  CHECK(refusal().empty());
  CHECK(::chmod(name.c_str(), 0640) == 0);  // a group that may read it is the owner's choice
  CHECK(refusal().empty());
  for (const mode_t mode : {mode_t{0644}, mode_t{0660}, mode_t{0602}}) {
    CHECK(::chmod(name.c_str(), mode) == 0);
    CHECK(refusal().find("chmod 600 " + name) != std::string::npos);
  }
  CHECK(::chmod(name.c_str(), 0600) == 0);
  std::ofstream(name) << std::string(5000, '#');
  CHECK(refusal().find("too large") != std::string::npos);
  std::filesystem::remove(name);
  CHECK(refusal().find(name) != std::string::npos);
  CHECK_THROWS_AS(read_keys(std::filesystem::temp_directory_path()), Error);
}
