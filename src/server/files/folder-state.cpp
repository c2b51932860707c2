#include <capstan/server/files/folder-state.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/file-store.h>
#include <capstan/server/files/file.h>
#include <capstan/server/files/leftovers.h>
#include <capstan/server/files/listing.h>
#include <capstan/server/files/noticing.h>
#include <capstan/server/files/quota.h>
#include <capstan/server/files/view.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/run.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

FolderState::FolderState(FolderOptions options, BlockingPool& pool, std::unique_ptr<storage::Tree> servedTree)
    : options(std::move(options)),
      pool(pool),
      cache(std::make_unique<Cache>(this->options.cacheBytes, this->options.cachePolicy)),
      listings(std::make_unique<Listings>(*servedTree->root, *cache)),
      tree(std::move(servedTree)),
      quotas(std::make_unique<Quotas>(*tree->root)),
      root(tree->root.get()),
      staging(tree->staging.get()),
      trash(tree->trash.get()),
      committer(tree->committer.get()) {
  leftovers = std::make_unique<Leftovers>(*staging);
  noticing = std::make_unique<Noticing>(this->options.root, *root, *committer, this->options.watchTime,
                                        ChangeJournal::Options{.changes = this->options.watchChanges});
}

FolderState::~FolderState() noexcept(false) {
  // Before jobs are waited for, which use all of these.
  quotas->threads().stop();
  trash->stop();
  noticing->stop();
  jobs.wait();
}

Result<std::unique_ptr<ServedFolder>> ServedFolder::open(FolderOptions options, BlockingPool& pool) {
  storage::TreeOptions treeOptions;
  treeOptions.folder = options.root;
  treeOptions.resumeTime = options.resumeTime;
  treeOptions.trash = options.trash;
  auto tree = storage::Tree::open(std::move(treeOptions));
  if (!tree.ok()) return tree.error();
  return std::unique_ptr<ServedFolder>(std::make_unique<FolderState>(std::move(options), pool, std::move(*tree)));
}

schema::FileStore::Client FolderState::newFileStore(kj::Own<Access> access) {
  auto& stores = access->connection().stores;
  return stores.add(newGuarded<FileStoreServer>(*this, kj::mv(access)));
}

Result<HeldFile> FolderState::hold(std::string path, const std::string& top) {
  auto view = View::of(*this, top);
  auto file = openFile(view->root(), std::move(path));
  if (!file.ok()) return file.error();
  return HeldFile{(*file)->fd, *file, (*file)->path, top};
}

Result<Version> FolderState::versionOf(const HeldFile& file) {
  struct stat status;
  if (fstat(file.fd, &status) < 0) return errorFromErrno(errno, "cannot look at", file.path);
  return files::versionOf(status);
}

kj::Promise<kj::Maybe<HeldFile>> FolderState::localFile(ConnectionScope& scope, schema::File::Client file) {
  return scope.files.getLocalServer(file).then([](kj::Maybe<schema::File::Server&> server) -> kj::Maybe<HeldFile> {
    KJ_IF_MAYBE (found, server) {
      auto& guard = kj::downcast<Guard<schema::File>>(*found);
      if (guard.access().lease->ended()) return nullptr;
      KJ_IF_MAYBE (file, guard.as<FileServer>()) {
        auto& opened = file->opened();
        return HeldFile{opened->fd, opened, opened->path, file->top(), file->grant()};
      }
    }
    return nullptr;
  });
}

kj::Promise<kj::Maybe<kj::Own<Access>>> FolderState::localTree(ConnectionScope& scope,
                                                               schema::FileStore::Client store) {
  return scope.stores.getLocalServer(store).then(
      [](kj::Maybe<schema::FileStore::Server&> server) -> kj::Maybe<kj::Own<Access>> {
        KJ_IF_MAYBE (found, server) {
          return kj::addRef(kj::downcast<Guard<schema::FileStore>>(*found).access());
        }
        return nullptr;
      });
}

kj::Promise<void> FolderState::whenApplied() {
  auto wait = [this]() {
    committer->waitForApply();
    return okStatus();
  };
  // That the queue is full is no reason not to wait: it is one mutation's time. `this` outlives the promise.
  return appliedPool.run(wait).then([this](Status waited) {
    if (!waited.ok()) committer->waitForApply();
  });
}

uint64_t FolderState::storedBelow(const std::string& path) const { return quotas->stored(path); }

void FolderState::forgetLeftovers(HasEnded hasEnded) {
  auto job = [this, hasEnded = std::move(hasEnded)]() {
    leftovers->forgetEnded(hasEnded);
    return okStatus();
  };
  runAtOnce(kj::mv(job)).detach([](kj::Exception&&) {});
}

FolderFigures FolderState::figures() const {
  auto commits = committer->figures();
  FolderFigures figures{commits.commits, commits.flushes, commits.pending, trash->bytes(), cache->figures(), {}};
  auto means = noticing->means();
  figures.watch = {means.method, means.interval, means.partly};
  return figures;
}

Result<Entry> FolderState::entryOf(int fd, std::string_view path) const {
  struct stat status;
  if (fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot look at", path);
  Entry entry = entryFrom(status);
  entry.path = std::string(path);
  if (entry.type == EntryType::FILE) entry.cached = cache->holds(idOf(status), entry.version);
  if (entry.type == EntryType::SYMLINK) {
    char target[MAX_PATH_BYTES];
    ssize_t size = readlinkat(fd, "", target, sizeof(target));
    if (size < 0) return errorFromErrno(errno, "cannot read the symlink", path);
    entry.target.assign(target, size_t(size));
  }
  return entry;
}

}  // namespace capstan::server::files
