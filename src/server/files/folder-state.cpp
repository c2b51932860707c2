#include <capstan/server/files/folder-state.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <capstan/base/path.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/file-store.h>
#include <capstan/server/files/file.h>
#include <capstan/server/files/listing.h>
#include <capstan/storage/committer.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

FolderState::FolderState(FolderOptions options, BlockingPool& pool, std::unique_ptr<Root> rootFolder,
                         std::unique_ptr<Staging> stagingFolder)
    : options(std::move(options)),
      pool(pool),
      root(std::move(rootFolder)),
      cache(std::make_unique<Cache>(this->options.cacheBytes, this->options.cachePolicy)),
      listings(std::make_unique<Listings>(*root, *cache)),
      staging(std::move(stagingFolder)),
      committer(std::make_unique<Committer>(*root, *staging, disk)) {}

FolderState::~FolderState() noexcept(false) = default;

Result<std::unique_ptr<ServedFolder>> ServedFolder::open(FolderOptions options, BlockingPool& pool) {
  auto root = Root::open(options.root);
  if (!root.ok()) return root.error();
  auto staging = Staging::open(**root, options.resumeTime);
  if (!staging.ok()) return staging.error();
  return std::unique_ptr<ServedFolder>(
      std::make_unique<FolderState>(std::move(options), pool, std::move(*root), std::move(*staging)));
}

schema::FileStore::Client FolderState::newFileStore(kj::Own<ConnectionScope> scope) {
  auto& stores = scope->stores;
  return stores.add(kj::heap<FileStoreServer>(*this, kj::mv(scope)));
}

Result<HeldFile> FolderState::hold(std::string path) {
  auto file = openFile(*root, std::move(path));
  if (!file.ok()) return file.error();
  return HeldFile{(*file)->fd, *file, (*file)->path};
}

Result<Version> FolderState::versionOf(const HeldFile& file) {
  struct stat status;
  if (fstat(file.fd, &status) < 0) return errorFromErrno(errno, "cannot look at", file.path);
  return files::versionOf(status);
}

kj::Promise<kj::Maybe<HeldFile>> FolderState::localFile(ConnectionScope& scope, schema::File::Client file) {
  return scope.files.getLocalServer(file).then([](kj::Maybe<schema::File::Server&> server) -> kj::Maybe<HeldFile> {
    KJ_IF_MAYBE (found, server) {
      auto& opened = kj::downcast<FileServer>(*found).opened();
      return HeldFile{opened->fd, opened, opened->path};
    }
    return nullptr;
  });
}

kj::Promise<kj::Maybe<std::string>> FolderState::localTree(ConnectionScope& scope, schema::FileStore::Client store) {
  return scope.stores.getLocalServer(store).then([](kj::Maybe<schema::FileStore::Server&> server) {
    return server == nullptr ? kj::Maybe<std::string>() : kj::Maybe<std::string>(std::string());
  });
}

FolderFigures FolderState::figures() const {
  auto commits = committer->figures();
  return {commits.commits, commits.flushes, commits.pending, cache->figures()};
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
