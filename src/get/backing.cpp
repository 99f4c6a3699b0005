#include "get/backing.h"

#include <unistd.h>

#include <memory>
#include <set>
#include <utility>

#include "core/format.h"
#include "wire/flow.h"

namespace mesh {
namespace {

constexpr int longest_chain = 64;  // of images, each on top of the next

/// Up to `size` bytes from `offset` on, fewer where the file ends or cannot be read.
std::string read_at(int fd, std::uint64_t offset, std::size_t size) {
  std::string out(size, '\0');
  const auto n = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
  out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return out;
}

bool may_be_image(const Planned& planned) {
  const auto& entry = planned.file.entry;
  return entry.kind == Kind::file && entry.size >= std::int64_t{qcow2_head_bytes} && !planned.no_image &&
         planned.file.problem.empty();
}

}  // namespace

std::vector<BackedImage> find_backed(const PathGate& gate, const std::vector<const Planned*>& files) {
  std::vector<BackedImage> out;
  for (const auto* planned : files) {
    const auto& path = planned->file.entry.path;
    if (!may_be_image(*planned)) continue;
    try {
      const Fd fd = gate.open_file(path);
      const auto head = read_at(fd.get(), 0, qcow2_head_bytes);
      if (head.size() != qcow2_head_bytes) continue;
      const auto where = find_backing_name(head);
      if (!where) continue;
      const auto name = read_at(fd.get(), where->offset, where->size);
      if (name.size() != where->size) continue;
      BackedImage image;
      image.path = path;
      image.what = planned->what;
      image.backing = locate_backing(path, name, gate.files_dir());
      if (image.backing.path.empty())
        image.backing.fault =
            printable(name.substr(0, 80)) + (name.size() > 80 ? "..." : "") + " " + image.backing.fault;
      out.push_back(std::move(image));
    } catch (const Error&) {
      // It did not arrive; why is said already.
    }
  }
  return out;
}

Task<void> BackingFiles::get(GetTaskPtr task, const Plan& plan, Results& results) {
  std::set<std::string> known;
  for (const auto& [path, planned] : plan.files) known.insert(path);
  std::vector<const Planned*> fresh;
  for (const auto& [path, planned] : plan.files) fresh.push_back(&planned);
  std::vector<std::unique_ptr<Plan>> plans;  // `fresh` points into them
  for (int depth = 0; depth < longest_chain && !fresh.empty() && !task->cancelled; ++depth) {
    const auto look = [&] { return find_backed(library_.gate(), fresh); };
    const auto images = co_await run_on(workers_.brief(), look);
    fresh.clear();
    for (const auto& image : images) {
      const auto fail = [&](Status status, const std::string& why) {
        GetOutcome trouble;
        trouble.what = image.what;
        trouble.mesh_path = image.path;
        trouble.status = status;
        trouble.error = printable(image.path) + ": its backing file" + why;
        results.push_back(std::move(trouble));
      };
      if (image.backing.path.empty()) {
        fail(Status::ok, " " + image.backing.fault + "; it is not fetched");
        continue;
      }
      if (task->excludes(image.backing.path) || !known.insert(image.backing.path).second) continue;
      auto more = std::make_unique<Plan>();
      const auto failed = co_await resolve(task, image, *more);
      if (failed) {
        fail(failed->status(), std::string(": ") + failed->what());
        continue;
      }
      co_await fulfil_(task, *more, results);
      for (const auto& [path, planned] : more->files) {
        known.insert(path);
        fresh.push_back(&planned);
      }
      plans.push_back(std::move(more));
    }
  }
}

/// The node that an image is wanted from may have its backing file from elsewhere.
Task<std::optional<Error>> BackingFiles::resolve(GetTaskPtr task, const BackedImage& image, Plan& plan) {
  Get asked = task->request;
  for (;;) {
    std::optional<Error> failed;
    try {
      co_await resolver_.resolve_file(asked, image.what, image.backing.path, plan, task);
    } catch (const Error& error) {
      failed = error;
    }
    if (!failed || asked.from.empty() || failed->status() != Status::not_found) co_return failed;
    asked.from.clear();
    plan.files.clear();
  }
}

}  // namespace mesh
