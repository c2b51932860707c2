#include "fake-folder.h"

#include <unistd.h>

#include <capstan/rpc/outcome.h>

namespace capstan::server::files {

namespace {

// Counts as an upload as long as somebody holds it.
class FakeUpload final : public schema::Upload::Server {
 public:
  explicit FakeUpload(Access& access) : place(access.lease->meters.takeAnyway(Resource::UPLOADS)) {}

 protected:
  kj::Promise<void> commit(CommitContext) override { return kj::READY_NOW; }

 private:
  Meters::Charge place;
};

class FakeFileStore final : public schema::FileStore::Server {
 public:
  explicit FakeFileStore(kj::Own<Access> access) : access(kj::mv(access)) {}

 protected:
  // `size` is the number of the thread that answers.
  kj::Promise<void> stat(StatContext call) override {
    call.getResults().initEntry().setSize(uint64_t(gettid()));
    return kj::READY_NOW;
  }

  kj::Promise<void> create(CreateContext call) override {
    auto results = call.getResults();
    if (access->connection().shuttingDown) {
      Error error{ErrorCode::SHUTTING_DOWN, "the server is shutting down", {}};
      rpc::setError(results.initOutcome(), error);
      results.setUpload(rpc::failed<schema::Upload>(error));
      return kj::READY_NOW;
    }
    results.setUpload(kj::heap<FakeUpload>(*access));
    return kj::READY_NOW;
  }

 private:
  kj::Own<Access> access;
};

}  // namespace

schema::FileStore::Client FakeFolder::newFileStore(kj::Own<Access> access) {
  return kj::heap<FakeFileStore>(kj::mv(access));
}

Result<HeldFile> FakeFolder::hold(std::string path, const std::string&) {
  return errorAt(ErrorCode::NOT_FOUND, path, "", " does not exist");
}

kj::Promise<kj::Maybe<HeldFile>> FakeFolder::localFile(ConnectionScope&, schema::File::Client) {
  return kj::Maybe<HeldFile>();
}

kj::Promise<kj::Maybe<kj::Own<Access>>> FakeFolder::localTree(ConnectionScope&, schema::FileStore::Client) {
  return kj::Maybe<kj::Own<Access>>();
}

FolderFigures FakeFolder::figures() const {
  FolderFigures figures;
  figures.commits = 7;
  figures.flushes = 3;
  figures.cache.limit = options.cacheBytes;
  figures.cache.hits = 11;
  figures.cache.policy = options.cachePolicy;
  return figures;
}

Result<std::unique_ptr<ServedFolder>> ServedFolder::open(FolderOptions options, BlockingPool&) {
  return std::unique_ptr<ServedFolder>(std::make_unique<FakeFolder>(std::move(options)));
}

}  // namespace capstan::server::files
