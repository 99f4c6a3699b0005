// Signatures by the examples that AWS publishes, stores as they are configured, and URLs of objects.
#include "store/sigv4.h"

#include <array>

#include "core/error.h"
#include "core/url.h"
#include "store/listing.h"
#include "store/requests.h"
#include "store/s3_store.h"
#include "store/stores.h"
#include "test.h"

using namespace mesh;

namespace {

/// "Signature Calculations for the Authorization Header", Amazon S3 API Reference: 24 May 2013, 00:00:00.
constexpr std::time_t then = 1369353600;
const S3Credentials example{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
const std::string nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::string signature(const S3Request& request) {
  const auto first = sign_v4(request, example, "us-east-1", then).front();
  return first.substr(first.find("Signature=") + 10);
}

S3Request request(const std::string& method, const std::string& path) {
  S3Request out;
  out.method = method;
  out.host = "examplebucket.s3.amazonaws.com";
  out.path = path;
  out.content_sha256 = nothing;
  return out;
}

StoreOptions store(const std::string& name, const std::vector<std::string>& buckets = {}) {
  StoreOptions out;
  out.name = name;
  out.endpoint = "https://s3.example:8443/base/";
  out.buckets = buckets;
  return out;
}

Url url_of(const std::string& text) { return parse_url(text); }

}  // namespace

TEST_CASE("requests are signed as in AWS's examples") {
  auto get = request("GET", "/test.txt");
  get.headers["range"] = "bytes=0-9";
  CHECK(signature(get) == "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  auto put = request("PUT", s3_encoded("/test$file.text", true));
  put.headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
  put.content_sha256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
  CHECK(signature(put) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  auto lifecycle = request("GET", "/");
  lifecycle.query = {{"lifecycle", ""}};
  CHECK(signature(lifecycle) == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  auto list = request("GET", "/");
  list.query = {{"prefix", "J"}, {"max-keys", "2"}};
  CHECK(signature(list) == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
  const auto headers = sign_v4(get, example, "us-east-1", then);
  CHECK(headers.front().starts_with(
      "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
      "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"));
  for (const auto& line : headers) CHECK(line.find(example.secret) == std::string::npos);
}

TEST_CASE("keys are encoded as S3 does") {
  CHECK(s3_encoded("a b+c=d%e/\xc3\xa9~.txt", true) == "a%20b%2Bc%3Dd%25e/%C3%A9~.txt");
  CHECK(s3_encoded("a/b", false) == "a%2Fb");
}

TEST_CASE("a URL of an object: its key as it is, and a mesh path that it can have") {
  const auto url = url_of("s3://prod@images/vm/a b+c%20#1.img");
  CHECK(url.store == "prod");
  CHECK(url.bucket == "images");
  CHECK(url.key == "vm/a b+c%20#1.img");
  CHECK(url.path == "images/vm/a b+c%20#1.img");
  CHECK(url.identity == "s3://prod@images/vm/a b+c%20#1.img");
  CHECK(url_of("s3://images//x").path == "images/%2Fx");
  CHECK(url_of("s3://images/a/../b").path == "images/a%2F..%2Fb");
  CHECK(url_of("s3://images/..").path == "images/%2E%2E");
  const std::string digits(64, 'A');
  const auto known = url_of("s3://images/a#sha256=" + digits);
  CHECK(known.key == "a");
  CHECK(known.sha256 == std::string(64, 'a'));
  auto named = url_of("s3://images/a");
  named.set_store("x");
  CHECK(named.identity == "s3://x@images/a");
  CHECK(without_secrets("s3://prod@images/a?b") == "s3://prod@images/a?b");
  for (const std::string bad : {"s3://", "s3://b", "s3:///k", "s3://../k", "s3://b b/k", "s3://@b/k", "s3://a b@b/k",
                                "s3://a@b@c/k", "s3://evil.example#/k", "s3://b/\xff", "swift://@b/k"}) {
    INFO(bad);
    CHECK_THROWS_AS(url_of(bad), Error);
  }
  CHECK_THROWS_AS(url_of("s3://b/a#sha256=" + digits + "#sha256=" + digits), Error);
  CHECK_THROWS_AS(url_of("s3://b/" + std::string(1025, 'k')), Error);
  CHECK_THROWS_AS(url_of(std::string("s3://b/a\0b", 10)), Error);
}

TEST_CASE("a URL is of the store that it names, else of the one with its bucket, else of the default one") {
  const Stores stores({store("one", {"a", "both"}), store("two", {"both"}), store("default")});
  CHECK(stores.name_of(url_of("s3://two@a/k")) == "two");
  CHECK(stores.name_of(url_of("s3://a/k")) == "one");
  CHECK(stores.name_of(url_of("s3://other/k")) == "default");
  CHECK_THROWS_AS(stores.name_of(url_of("s3://both/k")), Error);
  CHECK_THROWS_AS(Stores({store("one")}).name_of(url_of("s3://a/k")), Error);
  CHECK(stores.open(url_of("s3://none@a/k"), false) == nullptr);
  auto swift = store("sw", {"a"});
  swift.endpoint.clear();
  swift.auth = "https://s/auth/v1.0";
  const Stores both({store("one", {"a"}), swift});
  CHECK(both.name_of(url_of("swift://a/k")) == "sw");
  CHECK(both.name_of(url_of("s3://a/k")) == "one");
  CHECK_THROWS_AS(both.find(url_of("swift://one@a/k")), Error);
}

TEST_CASE("a store is asked for others only as far as it is shared") {
  auto mine = store("mine");
  mine.share = {"images/public/", "images/one.img", "whole"};
  const Stores stores({mine});
  const auto opens = [&](const std::string& key) {
    try {
      return stores.open(url_of("s3://mine@" + key), true) != nullptr;
    } catch (const Error& error) {
      CHECK(error.status() == Status::refused);
      return false;
    }
  };
  CHECK(opens("images/public/a"));
  CHECK(opens("images/one.img"));
  CHECK(opens("whole/x"));
  CHECK_FALSE(opens("images/publicity"));
  CHECK_FALSE(opens("images/one.img2"));
  CHECK_FALSE(opens("images/public/../secret"));
  CHECK_FALSE(opens("images/public//x"));
  CHECK_FALSE(opens("wholesale/x"));
  CHECK(stores.open(url_of("s3://mine@images/secret"), false) != nullptr);
  const auto lists = [&](const std::string& prefix) {
    try {
      stores.check_shared(url_of("s3://mine@images/"), prefix, true);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  CHECK(lists("public/"));
  CHECK(lists("public/a"));
  CHECK_FALSE(lists("public"));
  CHECK_FALSE(lists("one.img"));
  CHECK(lists("one.img/"));
  CHECK_FALSE(lists(""));
  CHECK_FALSE(lists("public/../"));
}

TEST_CASE("an object's address, in either style; who has no credentials signs nothing") {
  S3Store::Options options;
  options.name = "s";
  options.endpoint = "https://s3.example:8443/base";
  options.region = "us-east-1";
  options.credentials = [] { return S3Credentials{}; };
  const auto address = [&](const std::string& key) {
    StoreRequest request;
    request.bucket = "buck";
    request.key = key;
    const auto made = S3Store(options).sign(request);
    CHECK(made.headers.empty());
    return made.url;
  };
  CHECK(address("a b/c+d") == "https://s3.example:8443/base/buck/a%20b/c%2Bd");
  CHECK(address("") == "https://s3.example:8443/base/buck");
  options.endpoint = "https://s3.example:443/base";
  CHECK(address("k") == "https://s3.example/base/buck/k");
  options.endpoint = "https://s3.example:8443/base";
  options.has_path_style = false;
  CHECK(address("k") == "https://buck.s3.example:8443/base/k");
  CHECK(address("") == "https://buck.s3.example:8443/base/");
  options.endpoint.clear();
  options.region = "eu-west-1";
  CHECK(address("k") == "https://buck.s3.eu-west-1.amazonaws.com/k");
  options.credentials = [] { return example; };
  S3Store store_of_aws(options);
  CHECK_FALSE(store_of_aws.learn({}, "buck", 301, "eu-west-1"));
  CHECK_FALSE(store_of_aws.learn({}, "buck", 301, "evil.example/"));
  CHECK_FALSE(store_of_aws.learn({}, "buck", 200, "eu-north-1"));
  CHECK(store_of_aws.learn({}, "buck", 301, "eu-north-1"));
  StoreRequest request;
  request.bucket = "buck";
  request.key = "k";
  request.query = {{"b", "2 +"}, {"a", ""}};
  const auto made = store_of_aws.sign(request);
  CHECK(made.url == "https://buck.s3.eu-north-1.amazonaws.com/k?b=2%20%2B&a=");
  CHECK(made.headers.front().find("/eu-north-1/s3/") != std::string::npos);
  request.bucket = "other";
  CHECK(store_of_aws.sign(request).url.starts_with("https://other.s3.eu-west-1."));
}

TEST_CASE("a listing of S3, its names encoded or not") {
  const auto page = read_s3_listing(
      "<?xml version=\"1.0\"?><ListBucketResult "
      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix/>"
      "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>n&amp;1</"
      "NextContinuationToken>"
      "<Contents><Key>a+b%2Bc%C3%A9</Key><LastModified>2026-12-01T09:00:00.500Z</LastModified><ETag>&quot;e1&quot;</"
      "ETag>"
      "<Size>12</Size><Owner><ID>x</ID></Owner></Contents><Contents><Key>z%00</Key><Size>0</Size></Contents>"
      "<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>");
  REQUIRE(page.objects.size() == 2);
  CHECK(page.objects[0].key == "a b+c\xc3\xa9");
  CHECK(page.objects[0].size == 12);
  CHECK(page.objects[0].etag == "e1");
  CHECK(page.objects[0].mtime == 1'796'115'600'500'000'000);
  CHECK(page.objects[1].key.front() == '\0');
  CHECK(page.prefixes == std::vector<std::string>{"d/"});
  CHECK(page.next == "n&1");
  const auto plain = read_s3_listing(
      "<s:ListBucketResult xmlns:s='x'><s:Contents><s:Key>a+%41</s:Key></s:Contents></s:ListBucketResult>");
  REQUIRE(plain.objects.size() == 1);
  CHECK(plain.objects[0].key == "a+%41");
  CHECK(plain.next.empty());
  const std::vector<std::string> wrong{
      "",
      "<Error/>",
      "{}",
      "<ListBucketResult>",
      "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
      "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
      "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult>&a;</ListBucketResult>",
      "<ListBucketResult><Contents><Key>" + std::string(20'000, 'k') + "</Key></Contents></ListBucketResult>"};
  for (const auto& text : wrong) {
    INFO(text.substr(0, 100));
    CHECK_THROWS_AS(read_s3_listing(text), Error);
  }
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "<a>";
  CHECK_THROWS_AS(read_s3_element(deep, "Code"), Error);
  CHECK(read_s3_element("<Error><Code>NoSuchKey</Code><Code>x</Code></Error>", "Code") == "NoSuchKey");
}

TEST_CASE("the parts of an upload of S3") {
  const auto parts = read_s3_parts(
      "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</"
      "NextPartNumberMarker><Part><PartNumber>1</PartNumber>"
      "<Size>5</Size><ETag>\"x\"</ETag></Part></ListPartsResult>");
  REQUIRE(parts.parts.size() == 1);
  CHECK(parts.parts[0].etag == "x");
  CHECK(parts.next == "2");
}

TEST_CASE("a listing of Swift") {
  const auto page = read_swift_listing(
      R"([{"name": "a\u00e9", "bytes": 3, "hash": "h", "last_modified": "2026-12-01T09:00:00.123456"}, {"subdir": "d/"}])",
      2);
  REQUIRE(page.objects.size() == 1);
  CHECK(page.objects[0].key == "a\xc3\xa9");
  CHECK(page.objects[0].mtime == 1'796'115'600'123'456'000);
  CHECK(page.prefixes == std::vector<std::string>{"d/"});
  CHECK(page.next == "d/");
  CHECK(read_swift_listing("[]", 2).next.empty());
  for (const std::string text : {"", "{}", "[1]", "[{}]", "[{\"name\": 1}]", "[[[["})
    CHECK_THROWS_AS(read_swift_listing(text, 2), Error);
}

TEST_CASE("a URL of many objects") {
  const auto below = url_of("s3://x@images/vm/");
  CHECK(below.is_pattern());
  CHECK(below.path == "images/vm");
  CHECK(below.literal_prefix() == "vm/");
  const auto all = url_of("swift://images/");
  CHECK(all.is_swift());
  CHECK(all.path == "images");
  CHECK(all.literal_prefix().empty());
  const auto glob = url_of("s3://images/vm/ub*/[a-z].img");
  CHECK(glob.literal_prefix() == "vm/ub");
  CHECK(glob.path == "images/vm/ub*/[a-z].img");
  CHECK(below.object("vm/a b").identity == "s3://x@images/vm/a b");
  CHECK_FALSE(below.object("vm/a b").is_pattern());
  for (const auto& bad : std::vector<std::string>{"s3://b", "s3://b/a*#sha256=" + std::string(64, 'a'),
                                                  "s3://b/" + std::string(2000, '*'), "s3://b/../", "s3://b/../*"}) {
    INFO(bad);
    CHECK_THROWS_AS(url_of(bad), Error);
  }
}

TEST_CASE("credentials files are read as AWS's programs read them") {
  const std::string text =
      "# mine\n[default]\naws_access_key_id = A\r\naws_secret_access_key=S=1\n\n[ other ]\naws_access_key_id=B\n"
      "aws_secret_access_key = T\naws_session_token = X\nregion = y\n";
  CHECK(read_profile(text, "default")["aws_access_key_id"] == "A");
  CHECK(read_profile(text, "default")["aws_secret_access_key"] == "S=1");
  CHECK(read_profile(text, "default").size() == 2);
  CHECK(read_profile(text, "other")["aws_session_token"] == "X");
  CHECK(read_profile(text, "none").empty());
}

TEST_CASE("a store's section is read, or said to be wrong") {
  StoreOptions out;
  out.name = "x";
  set_store_option(out, "endpoint", {"http://h:1/p"});
  set_store_option(out, "region", {"r"});
  set_store_option(out, "style", {"virtual"});
  set_store_option(out, "credentials", {"/etc/mesh/x"});
  set_store_option(out, "buckets", {"a", "b"});
  CHECK(out.endpoint == "http://h:1/p");
  CHECK_FALSE(out.has_path_style);
  CHECK(out.buckets.size() == 2);
  const std::array<std::pair<const char*, const char*>, 7> wrong{{{"endpoint", "h:1"},
                                                                  {"endpoint", "https://user:secret@h"},
                                                                  {"endpoint", "https://"},
                                                                  {"style", "odd"},
                                                                  {"credentials", "x"},
                                                                  {"secret", "x"},
                                                                  {"", "x"}}};
  for (const auto& [key, value] : wrong) {
    INFO(key << " " << value);
    CHECK_THROWS_AS(set_store_option(out, key, {value}), Error);
  }
  CHECK_THROWS_AS(set_store_option(out, "region", {"a", "b"}), Error);
}
