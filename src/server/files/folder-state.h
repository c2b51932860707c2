// What the parts of a served folder share: the implementation behind ServedFolder. Internal to src/server/files.
#pragma once

#include <memory>

#include <capstan/base/entry.h>
#include <capstan/server/files/served-folder.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/root.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/tree.h>

namespace capstan::server::files {

class Cache;     // cache.h: hot files' content in memory
class Listings;  // listing.h: pages of folders, with snapshots of those being listed
class Noticing;  // noticing.h: what changes, by whomever

// Thread-safe as its parts are. Members are destroyed in reverse order: the tree first, in which the committer ends,
// and then Staging waits for the jobs that run() started.
class FolderState final : public ServedFolder {
 public:
  FolderState(FolderOptions options, BlockingPool& pool, std::unique_ptr<storage::Tree> tree);
  ~FolderState() noexcept(false);

  schema::FileStore::Client newFileStore(kj::Own<Access> access) override;
  Result<HeldFile> hold(std::string path) override;
  Result<Version> versionOf(const HeldFile& file) override;
  kj::Promise<kj::Maybe<HeldFile>> localFile(ConnectionScope& scope, schema::File::Client file) override;
  kj::Promise<kj::Maybe<kj::Own<Access>>> localTree(ConnectionScope& scope, schema::FileStore::Client store) override;
  FolderFigures figures() const override;

  // pool.run() for a job that uses this object: it is not destroyed before the job has ended, also when nobody waits
  // for the job any more.
  template <typename Func>
  auto run(Func&& job) {
    return pool.run([hold = staging->hold(), job = std::forward<Func>(job)]() mutable { return job(); });
  }

  // The run with this id, null for an empty one. May block.
  Result<std::shared_ptr<Run>> runOf(const std::string& id, const std::string& client);
  // Carries out one mutation as a part of the run, if there is one.
  kj::Promise<Result<Entry>> submit(Committer::Ticket ticket, std::unique_ptr<Mutation> mutation,
                                    std::shared_ptr<Run> run);

  // What `fd` (of any kind, O_PATH too) holds, as the entry at `path`: with `cached`, and a symlink's target. Errors
  // name the path. May block.
  Result<Entry> entryOf(int fd, std::string_view path) const;

  const FolderOptions options;
  BlockingPool& pool;
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Listings> listings;
  std::unique_ptr<Noticing> noticing;  // told by the committer
  const std::unique_ptr<storage::Tree> tree;
  // Its parts.
  Root* const root;
  Staging* const staging;
  Trash* const trash;
  Committer* const committer;
};

}  // namespace capstan::server::files
