#include <capstan/server/files/file-store.h>

#include <fcntl.h>

#include <cerrno>

#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/file.h>
#include <capstan/server/files/listing.h>

namespace capstan::server::files {

using Opened = std::shared_ptr<const OpenFile>;

namespace {

constexpr size_t LIST_PAGE_BYTES = 512 << 10;  // a page of usual names takes less

// A descriptor that open(path, O_RDONLY) gave, as a file.
Result<Opened> asFile(kj::AutoCloseFd fd, std::string path, bool local) {
  struct stat status;
  if (fstat(fd, &status) < 0) return errorFromErrno(errno, "cannot open", path);
  if (S_ISDIR(status.st_mode)) return errorAt(ErrorCode::IS_DIRECTORY, path, "", " is a folder, not a file");
  if (!S_ISREG(status.st_mode)) return errorAt(ErrorCode::UNSUPPORTED, path, "", " is not a file");
  return Opened(std::make_shared<const OpenFile>(OpenFile{kj::mv(fd), std::move(path), local}));
}

template <typename Results>
void answerEntry(Results&& results, const Result<Entry>& entry) {
  if (entry.ok()) {
    rpc::write(results.initEntry(), *entry);
  } else {
    rpc::setError(results.initOutcome(), entry.error());
  }
}

template <typename Results>
void answerPage(Results&& results, const Result<ListPage>& page) {
  if (!page.ok()) return rpc::setError(results.initOutcome(), page.error());
  auto entries = results.initEntries(uint(page->entries.size()));
  for (uint i = 0; i < entries.size(); ++i) rpc::write(entries[i], page->entries[i]);
  auto unread = results.initUnread(uint(page->unread.size()));
  for (uint i = 0; i < unread.size(); ++i) rpc::writeError(unread[i], page->unread[i]);
  results.setCursor(rpc::asData(page->cursor));
  results.setAtEnd(page->atEnd);
}

}  // namespace

Result<Opened> openFile(const Root& root, std::string path) {
  auto fd = root.open(path, O_RDONLY, Follow::YES);
  if (!fd.ok()) return fd.error();
  bool local = answersAtOnce(fd->get());
  return asFile(std::move(*fd), std::move(path), local);
}

Error shuttingDownError() {
  return {ErrorCode::SHUTTING_DOWN, "the server is shutting down and takes no new work; try again later", {}};
}

FileStoreServer::FileStoreServer(FolderState& folder, kj::Own<Access> accessParam)
    : Guarded(kj::mv(accessParam)), folder(folder), scope(&access->connection()), view(View::of(folder, *access)) {}

kj::Promise<void> FileStoreServer::stat(StatContext context) {
  auto params = context.getParams();
  std::string path(rpc::asView(params.getPath()));
  Follow follow = params.getFollow() ? Follow::YES : Follow::NO;
  context.releaseParams();
  if (scope->shuttingDown) {
    rpc::setError(context.getResults().initOutcome(), shuttingDownError());
    return kj::READY_NOW;
  }
  KJ_IF_MAYBE (opened, view->root().tryOpenNow(path, follow == Follow::NO ? O_PATH | O_NOFOLLOW : O_PATH)) {
    answerEntry(context.getResults(),
                opened->ok() ? folder.entryOf(opened->value(), path) : Result<Entry>(opened->error()));
    return kj::READY_NOW;
  }
  return folder
      .run(*scope,
           [&folder = folder, view = view, path, follow]() -> Result<Entry> {
             auto opened = view->root().open(path, O_PATH, follow);
             if (!opened.ok()) return opened.error();
             return folder.entryOf(opened->get(), path);
           })
      .then([context](Result<Entry> entry) mutable { answerEntry(context.getResults(), entry); });
}

kj::Promise<void> FileStoreServer::list(ListContext context) {
  auto params = context.getParams();
  ListRequest request{std::string(rpc::asView(params.getPath())), params.getRecursive(),
                      std::string(rpc::asView(params.getCursor())), params.getMaxEntries()};
  uint32_t most = folder.options.listEntries;
  request.maxEntries = request.maxEntries == 0 ? most : std::min(request.maxEntries, most);
  context.releaseParams();
  if (scope->shuttingDown) {
    rpc::setError(context.getResults().initOutcome(), shuttingDownError());
    return kj::READY_NOW;
  }
  return scope->answers.take(LIST_PAGE_BYTES).then([this, context, request](Budget::Charge charge) mutable {
    return folder.run(*scope, [view = view, request]() { return view->list(request); })
        .then([context](Result<ListPage> page) mutable { answerPage(context.getResults(), page); })
        .attach(kj::mv(charge));
  });
}

kj::Promise<void> FileStoreServer::open(OpenContext context) {
  std::string path(rpc::asView(context.getParams().getPath()));
  context.releaseParams();
  auto refuse = [&](const Error& error) -> kj::Promise<void> {
    auto results = context.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setFile(rpc::failed<schema::File>(error));
    return kj::READY_NOW;
  };
  auto answer = [&folder = folder, view = view, context](Result<Opened> opened, Slot slot) mutable {
    auto results = context.getResults();
    if (opened.ok()) {
      auto& files = slot.connection().files;
      results.setFile(files.add(newGuarded<FileServer>(folder, view, std::move(*opened), kj::mv(slot))));
    } else {
      rpc::setError(results.initOutcome(), opened.error());
      results.setFile(rpc::failed<schema::File>(opened.error()));
    }
  };
  if (scope->shuttingDown) return refuse(shuttingDownError());
  auto slot = Slot::take(kj::addRef(*access), Resource::FILES, "cannot open", path);
  if (!slot.ok()) return refuse(slot.error());
  KJ_IF_MAYBE (opened, view->root().tryOpenNow(path, O_RDONLY)) {
    answer(opened->ok() ? asFile(std::move(*opened).value(), path, true) : Result<Opened>(opened->error()),
           std::move(*slot));
    return kj::READY_NOW;
  }
  return folder.run(*scope, [view = view, path]() { return openFile(view->root(), path); })
      .then([answer, slot = std::move(*slot)](Result<Opened> opened) mutable {
        answer(std::move(opened), kj::mv(slot));
      });
}

kj::Promise<void> FileStoreServer::subtree(SubtreeContext context) {
  auto params = context.getParams();
  std::string path(rpc::asView(params.getPath()));
  Rights wanted = rightsFrom(params.getRights());
  context.releaseParams();
  auto refuse = [](SubtreeContext& context, const Error& error) {
    auto results = context.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setStore(rpc::failed<schema::FileStore>(error));
  };
  if (!wanted.isWithin(access->rights)) {
    refuse(context, {ErrorCode::DENIED, "a subtree has no more rights than the tree that it is taken from", {}});
    return kj::READY_NOW;
  }
  // `this`: the call's context keeps the capability.
  return folder.run(*scope, [view = view, path]() { return view->folderAt(path); })
      .then([this, refuse, context, wanted](Result<std::string> path) mutable {
        if (!path.ok()) return refuse(context, path.error());
        context.getResults().setStore(folder.newFileStore(access->narrowed(*path, wanted)));
      });
}

}  // namespace capstan::server::files
