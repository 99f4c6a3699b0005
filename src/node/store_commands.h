// What a node's own commands have it do in object stores: list, put, delete; with its credentials, and so for its own
// user and root alone, or with `control-allow = ["store-write"]` for who may use its socket. On the node's loop.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "library/library.h"
#include "node/node_options.h"
#include "node/once.h"
#include "store/stores.h"
#include "wire/channel.h"
#include "wire/pacer.h"

namespace mesh {

class StoreCommands {
 public:
  /// `stores` may be null, the others must outlive this.
  StoreCommands(Workers& workers, const NodeOptions& options, Log log, Library& library,
                std::shared_ptr<const Stores> stores, const Pacer& upload)
      : workers_(workers),
        options_(options),
        log_(std::move(log)),
        library_(library),
        stores_(std::move(stores)),
        upload_(upload),
        once_(workers, library.db()) {}

  void serve(Handlers& handlers);

 private:
  struct Putting;
  [[nodiscard]] Url url_of(const std::string& text) const;
  [[nodiscard]] ObjectStorePtr store_of(const Url& url) const;
  void check_writer(const ChannelPtr& channel, const std::string& url) const;
  Task<ObjectsTold> list(ObjectsAsk asked);
  Task<PutDone> put(ChannelPtr channel, Put asked);
  static Task<void> tell(Workers& workers, std::shared_ptr<Putting> of, std::string path);
  Task<PutDone> put_now(std::shared_ptr<Putting> putting, Put asked);
  Task<ObjectDeleted> remove(ObjectDelete asked);
  PutDone send(const std::shared_ptr<Putting>& putting, const Put& asked, const Url& url, const ObjectStorePtr& store);

  Workers& workers_;
  const NodeOptions& options_;
  Log log_;
  Library& library_;
  std::shared_ptr<const Stores> stores_;
  Pacer upload_;
  Once once_;
  std::map<std::string, std::shared_ptr<Putting>> under_way_;  ///< by the object's URL
};

}  // namespace mesh
