#include "wire/identity.h"

#include "test.h"
#include "wire/access.h"
#include "wire/mesh_key.h"

using namespace mesh;

TEST_CASE("identity: what a node says is proven for that word, that channel and that node alone") {
  const Identity one(random_secret());
  const Identity other(random_secret());
  const std::string binding(32, 'b');
  const auto proof = one.prove("hello", binding);
  CHECK(is_instance(one.instance()));
  CHECK(one.instance() != other.instance());
  CHECK(is_proven(one.instance(), one.public_key(), "hello", binding, proof));
  CHECK_FALSE(is_proven(one.instance(), one.public_key(), "greet", binding, proof));
  CHECK_FALSE(is_proven(one.instance(), one.public_key(), "hello", std::string(32, 'c'), proof));
  CHECK_FALSE(is_proven(one.instance(), one.public_key(), "hello", {}, one.prove("hello", {})));
  CHECK_FALSE(is_proven(other.instance(), one.public_key(), "hello", binding, proof));
  CHECK_FALSE(is_proven(other.instance(), other.public_key(), "hello", binding, proof));
  CHECK_FALSE(is_proven(one.instance(), one.public_key(), "hello", binding, proof.substr(1)));
  CHECK_FALSE(is_proven(one.instance(), {}, "hello", binding, proof));
}

TEST_CASE("identity: the key file says which nodes are heads") {
  const Identity head(random_secret());
  std::vector<std::string> heads;
  const auto text = new_key_line() + "\nhead = " + head.instance() + "\n";
  const auto secrets = parse_keys(text, "k", &heads);
  const MeshKeys keys(secrets, heads);
  CHECK(keys.is_head(head.instance()));
  CHECK_FALSE(keys.is_head(Identity(random_secret()).instance()));
  for (const char* bad : {"head", "head = ", "head = x", "head 00000000000000000000000000000000", "headless"})
    CHECK_THROWS(parse_keys(new_key_line() + "\n" + bad, "k"));
}

TEST_CASE("identity: names of nodes have no control characters and no mark") {
  CHECK(node_name_fault("n-1.example").empty());
  for (const std::string bad : {"", "a\nb", "a\x1b[2J", "n1#4f2a", "\xff", "0123456789abcdef0123456789abcdef"})
    CHECK_FALSE(node_name_fault(bad).empty());
}

TEST_CASE("keys: with the authority's certificate alone nobody can tell which contents are in the mesh") {
  const auto secrets = parse_keys(new_key_line() + "\n" + new_key_line(), "k");
  const MeshKeys keys(secrets);
  const std::string id(32, 'i');
  CHECK(infohash_secret(keys.all()[0], id, 7) == infohash_secret(MeshKeys(secrets).all()[0], id, 7));
  CHECK(infohash_secret(keys.all()[0], id, 7) != infohash_secret(keys.all()[1], id, 7));
  CHECK(infohash_secret(keys.all()[0], id, 7) != infohash_secret(keys.all()[0], std::string(32, 'j'), 7));
}

TEST_CASE("http: pages in browsers open no channel, and only this machine's names are answered to") {
  const auto refused = [](HttpHead head, const std::vector<std::string>& names = {}) {
    return !http_refusal(head, names).empty();
  };
  CHECK(refused({true, true, false, "127.0.0.1:6969"}));
  CHECK_FALSE(refused({true, false, false, "127.0.0.1:6969"}));
  CHECK_FALSE(refused({false, true, false, "[::1]:6969"}));
  CHECK_FALSE(refused({false, false, false, "LocalHost."}));
  CHECK(refused({false, false, false, "evil.example:6969"}));
  CHECK(refused({false, false, false, "127.0.0.1.evil.example"}));
  CHECK(refused({false, false, false, "[::1"}));
  CHECK_FALSE(refused({false, false, false, "Head.Example:6969"}, {"head.example"}));
  CHECK(refused({false, false, false, ""}));
  CHECK_FALSE(refused({false, false, true, ""}));
}
