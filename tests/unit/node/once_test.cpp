// Requests that are sent again are done once.
#include "node/once.h"

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>

#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

struct Asked {
  Asked() {
    std::string name = (fs::temp_directory_path() / "mesh-once-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
    restart();
  }
  ~Asked() {
    workers.stop();
    workers.join();
    fs::remove_all(root);
  }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;
  /// Another process, of the same state.
  void restart() {
    once.reset();
    db.reset();
    db = std::make_unique<StateDb>(root / "state.db");
    once = std::make_unique<Once>(workers, *db);
  }
  /// Asks `times` at once; what each was answered: how often it had been done by then, or an error's text.
  std::vector<std::string> ask(const std::string& number, int times = 1) {
    std::vector<std::string> out(static_cast<std::size_t>(times));
    int left = times;
    auto body = [](Asked* self, std::string number_, std::string& answer, int& waiting) -> Task<void> {
      try {
        Delete request;
        request.once = number_;
        std::function<Task<Deleted>(Delete)> work = [self](Delete) -> Task<Deleted> {
          co_await sleep_for(std::chrono::milliseconds(20));
          Deleted reply;
          reply.count = ++self->done;
          if (self->fails) throw Error(Status::not_found, "nothing is there");
          co_return reply;
        };
        const Deleted reply = co_await self->once->run(request, std::move(work));
        answer = std::to_string(reply.count);
      } catch (const Error& error) {
        answer = error.what();
      }
      --waiting;
    };
    for (auto& answer : out) spawn(io, body(this, number, answer, left));
    while (left > 0) {
      io.restart();
      io.run_for(std::chrono::milliseconds(5));
    }
    return out;
  }
  fs::path root;
  asio::io_context io{1};
  Workers workers{io};
  std::unique_ptr<StateDb> db;
  std::unique_ptr<Once> once;
  int done = 0;
  bool fails = false;
};

const std::string first(32, 'a');
const std::string second(32, 'b');

}  // namespace

TEST_CASE("once: the same request again has the same answer, at once, later, and from the next process") {
  Asked node;
  using Answers = std::vector<std::string>;
  CHECK(node.ask(first, 5) == Answers(5, "1"));
  CHECK(node.ask(first) == Answers{"1"});
  CHECK(node.ask(second) == Answers{"2"});
  node.restart();
  CHECK(node.ask(first) == Answers{"1"});
  CHECK(node.ask(second) == Answers{"2"});
  node.once->heard<Delete>(first);
  CHECK(node.ask(first) == Answers{"3"});
  // Without a number, each time.
  CHECK(node.ask("") == Answers{"4"});
  CHECK(node.ask("") == Answers{"5"});
  CHECK(node.done == 5);
}

TEST_CASE("once: an error is an answer, too; a number that is none is refused") {
  Asked node;
  using Answers = std::vector<std::string>;
  node.fails = true;
  CHECK(node.ask(first) == Answers{"nothing is there"});
  node.fails = false;
  node.restart();
  CHECK(node.ask(first) == Answers{"nothing is there"});
  CHECK(node.done == 1);
  CHECK(node.ask("x") == Answers{"a request's number makes no sense"});
  CHECK(node.ask(std::string(32, 'Z')) == Answers{"a request's number makes no sense"});
}

TEST_CASE("once: answers are bounded, and forgotten after ten minutes") {
  Asked node;
  for (int i = 0; i < 600; ++i) node.db->put_answer(std::to_string(i), 1000 + i, "x");
  CHECK_FALSE(node.db->find_answer("0"));
  CHECK_FALSE(node.db->find_answer("99"));
  CHECK(node.db->find_answer("100"));
  node.db->put_answer("late", 2100, "x");
  CHECK_FALSE(node.db->find_answer("499"));
  CHECK(node.db->find_answer("500"));
  CHECK(node.db->find_answer("late"));
}
