// Streams: the bytes of a file in order to a command's channel, as they arrive. On the node's loop.
#pragma once

#include <memory>
#include <vector>

#include "get/getter.h"
#include "transfer/reader.h"
#include "transfer/spools.h"
#include "wire/channel.h"

namespace mesh {

class Streamer {
 public:
  Streamer(Workers& workers, Library& library, Session& session, Spools& spools, Getter& getter)
      : workers_(workers), library_(library), session_(session), spools_(spools), getter_(getter) {}

  /// Sends the file's bytes as StreamData notes and returns when all are sent. Throws Error; what was sent cannot be
  /// taken back, but every piece of it passed its hash.
  Task<StreamEnd> stream(ChannelPtr channel, Stream asked);

  /// Sends the file of a get along while it arrives, a StreamBegin note first; returns when all of it is sent, or when
  /// `over` is set and there is nothing to send. Never throws: what matters is what the get puts in place.
  Task<void> pipe(ChannelPtr channel, GetTaskPtr task, std::shared_ptr<bool> over);

  [[nodiscard]] bool is_idle() const { return streams_ == 0; }

 private:
  Workers& workers_;
  Library& library_;
  Session& session_;
  Spools& spools_;
  Getter& getter_;
  int streams_ = 0;
};

}  // namespace mesh
