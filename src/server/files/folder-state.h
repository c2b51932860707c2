// What the parts of a served folder share: the implementation behind ServedFolder. Internal to src/server/files.
#pragma once

#include <memory>

#include <capstan/base/entry.h>
#include <capstan/base/holds.h>
#include <capstan/server/access/in-turn.h>
#include <capstan/server/files/served-folder.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/root.h>
#include <capstan/storage/staging.h>
#include <capstan/storage/tree.h>

namespace capstan::server::files {

class Cache;      // cache.h: hot files' content in memory
class Leftovers;  // leftovers.h: what uploads have left that can be resumed
class Listings;   // listing.h: pages of folders, with snapshots of those being listed
class Noticing;   // noticing.h: what changes, by whomever
class Quotas;     // quota.h: what shares may hold

// Thread-safe as its parts are. Members are destroyed in reverse order: the tree before the rest, in which the
// committer ends, and then Staging waits for the jobs that run() started.
class FolderState final : public ServedFolder {
 public:
  FolderState(FolderOptions options, BlockingPool& pool, std::unique_ptr<storage::Tree> tree);
  ~FolderState() noexcept(false);

  schema::FileStore::Client newFileStore(kj::Own<Access> access) override;
  Result<HeldFile> hold(std::string path, const std::string& top) override;
  Result<Version> versionOf(const HeldFile& file) override;
  kj::Promise<kj::Maybe<HeldFile>> localFile(ConnectionScope& scope, schema::File::Client file) override;
  kj::Promise<kj::Maybe<kj::Own<Access>>> localTree(ConnectionScope& scope, schema::FileStore::Client store) override;
  kj::Promise<void> whenApplied() override;
  uint64_t storedBelow(const std::string& path) const override;
  void forgetLeftovers(HasEnded hasEnded) override;
  FolderFigures figures() const override;

  // pool.run() for a job that uses this object: it is not destroyed before the job has ended, also when nobody waits
  // for the job any more. What a connection has more of than its share of the threads waits its turn on its loop, and
  // answers connectionGoneError() if the connection ends before.
  template <typename Func>
  auto run(ConnectionScope& scope, Func&& job) {
    return inFileTurn(scope, [this, job = std::forward<Func>(job)]() mutable { return runAtOnce(std::move(job)); });
  }
  // For what nobody can ask for much of.
  template <typename Func>
  auto runAtOnce(Func&& job) {
    return pool.run([hold = Holds::Hold(jobs), job = std::forward<Func>(job)]() mutable { return job(); });
  }

  // What `fd` (of any kind, O_PATH too) holds, as the entry at `path`: with `cached`, and a symlink's target. Errors
  // name the path. May block.
  Result<Entry> entryOf(int fd, std::string_view path) const;

  const FolderOptions options;
  BlockingPool& pool;
  Holds jobs;
  std::unique_ptr<Cache> cache;
  std::unique_ptr<Listings> listings;
  std::unique_ptr<Noticing> noticing;    // told by the committer
  std::unique_ptr<Leftovers> leftovers;  // used by jobs that the tree's staging waits for
  const std::unique_ptr<storage::Tree> tree;
  const std::unique_ptr<Quotas> quotas;
  // The tree's parts. What is done for a capability goes through its View (view.h), and never uses these.
  Root* const root;
  Staging* const staging;
  Trash* const trash;
  Committer* const committer;

 private:
  // For those who wait until something is applied, which nothing that others have to do may hold up.
  BlockingPool appliedPool{{.threads = 1, .name = "capstan-applied"}};
};

}  // namespace capstan::server::files
