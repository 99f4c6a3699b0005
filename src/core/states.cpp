#include "core/states.h"

namespace mesh {

const char* to_text(TransferState state) {
  switch (state) {
    case TransferState::unknown:
      return "unknown";
    case TransferState::queued:
      return "queued";
    case TransferState::connecting:
      return "connecting";
    case TransferState::hashing:
      return "hashing";
    case TransferState::checking:
      return "checking";
    case TransferState::copying:
      return "copying";
    case TransferState::paused:
      return "paused";
    case TransferState::downloading:
      return "downloading";
    case TransferState::streaming:
      return "streaming";
    case TransferState::placing:
      return "placing";
    case TransferState::seeding:
      return "seeding";
    case TransferState::foreign:
      return "foreign";
    case TransferState::guest:
      return "guest";
    case TransferState::comparing:
      return "comparing";
  }
  return "";
}

const char* to_text(GetState state) {
  switch (state) {
    case GetState::unknown:
      return "unknown";
    case GetState::queued:
      return "queued";
    case GetState::running:
      return "running";
    case GetState::paused:
      return "paused";
    case GetState::stopping:
      return "stopping";
    case GetState::done:
      return "done";
    case GetState::failed:
      return "failed";
    case GetState::stopped:
      return "stopped";
  }
  return "";
}

}  // namespace mesh
