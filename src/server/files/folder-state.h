// What the parts of a served folder share: the implementation behind ServedFolder. Internal to src/server/files.
#pragma once

#include <memory>

#include <capstan/server/files/root.h>
#include <capstan/server/files/served-folder.h>

namespace capstan::server::files {

class Cache;      // cache.h: hot files' content in memory
class Listings;   // listing.h: pages of folders, with snapshots of those being listed
class Staging;    // staging.h: content on its way in
class Committer;  // committer.h: makes mutations durable, many with one flush

// Thread-safe as its parts are. Members are destroyed in reverse order: the committer first.
class FolderState final : public ServedFolder {
 public:
  FolderState(FolderOptions options, BlockingPool& pool, std::unique_ptr<Root> root);
  ~FolderState() noexcept(false);

  schema::FileStore::Client newFileStore(kj::Own<ConnectionScope> scope) override;
  FolderFigures figures() const override;

  const FolderOptions options;
  BlockingPool& pool;
  std::unique_ptr<Root> root;
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Listings> listings;
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Committer> committer;
};

}  // namespace capstan::server::files
