#include "transfer/local_source.h"

#include "core/format.h"

namespace mesh {

Task<bool> LocalSource::tend() {
  const auto wanted = download_.wanted();
  const auto* item = library_.inventory().find(wanted.id, wanted.size);
  if (item == nullptr || item->entry.path == wanted.path) co_return false;
  const std::string from = item->entry.path;
  download_.show(TransferState::copying, "from " + from);
  std::optional<Error> trouble;
  try {
    co_await parts_.copy(download_.order(), wanted.id, from, download_.stop());
  } catch (const Error& error) {
    trouble = error;
  }
  if (!trouble) {
    download_.show_reused(wanted.size);
    log_(LogLine(printable(wanted.path) + ": here; copied from " + printable(from))
             .of("here", wanted.path, wanted.size));
    co_return true;
  }
  download_.check_wanted();
  log_(warning(printable(wanted.path) + ": cannot be copied from " + printable(from) + ": " + trouble->what() +
               "; it is fetched")
           .of("not-copied", wanted.path));
  co_return false;
}

}  // namespace mesh
