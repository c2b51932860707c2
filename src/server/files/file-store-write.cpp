#include <capstan/server/files/file-store.h>

#include <fcntl.h>
#include <sys/statvfs.h>

#include <cerrno>

#include <capstan/base/file.h>
#include <capstan/base/path.h>
#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/leftovers.h>
#include <capstan/server/files/upload.h>
#include <capstan/storage/copy-tree.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/mutations.h>
#include <capstan/storage/place-file.h>
#include <capstan/storage/run.h>
#include <capstan/storage/usage.h>
#include <capstan/storage/version.h>

namespace capstan::server::files {

namespace {

constexpr size_t MAX_RESUME_KEY_BYTES = 64;

std::string textOf(capnp::Data::Reader data) { return std::string(rpc::asView(data)); }

template <typename Results>
void answerEntry(Results&& results, const Result<Entry>& entry) {
  if (entry.ok()) {
    rpc::write(results.initEntry(), *entry);
  } else {
    rpc::setError(results.initOutcome(), entry.error());
  }
}

template <typename Context>
kj::Promise<void> fail(Context& context, const Error& error) {
  rpc::setError(context.getResults().initOutcome(), error);
  return kj::READY_NOW;
}

// Carries out a mutation that needs nothing but its turn.
template <typename Context>
kj::Promise<void> mutate(const View& view, const ConnectionScope& scope, Context context,
                         std::unique_ptr<Mutation> mutation) {
  context.releaseParams();
  if (scope.shuttingDown) return fail(context, shuttingDownError());
  return view.submit(view.takeTicket(scope), std::move(mutation)).then([context](Result<Entry> entry) mutable {
    answerEntry(context.getResults(), entry);
  });
}

Result<UploadTarget> targetOf(capnp::Data::Reader path, schema::UploadOptions::Reader options) {
  auto attributes = rpc::read(options.getAttributes());
  if (!attributes.ok()) return attributes.error();
  return UploadTarget{textOf(path),
                      rpc::read(options.getExpectation()),
                      *attributes,
                      options.getMakeParents(),
                      textOf(options.getBase()),
                      textOf(options.getRun())};
}

// What can be known to fail before anything is sent. At commit all of it is looked at again, and counts.
Status checkEarly(const Root& root, const UploadTarget& target) {
  auto place = root.locate(target.path);
  if (!place.ok()) {
    bool willBeMade = place.error().code == ErrorCode::NOT_FOUND && target.makeParents && !root.reserves(target.path);
    if (!willBeMade) return place.error();
    return checkExpectation(target.expectation, std::nullopt, target.path);
  }
  auto found = root.stat(target.path);
  if (!found.ok() && found.error().code != ErrorCode::NOT_FOUND) return found.error();
  std::optional<struct stat> status;
  if (found.ok()) status = *found;
  Status held = checkExpectation(target.expectation, status, target.path);
  if (!held.ok() || !status || !S_ISDIR(status->st_mode)) return held;
  return errorAt(ErrorCode::IS_DIRECTORY, target.path, "", " is a folder; remove it first, or choose another name");
}

Status checkSpace(int fd, uint64_t needed, const std::string& path) {
  struct statvfs status;
  if (fstatvfs(fd, &status) < 0) return okStatus();  // not known: then it is noticed later
  uint64_t free = uint64_t(status.f_bavail) * status.f_frsize;
  if (needed <= free) return okStatus();
  return errorAt(ErrorCode::NO_SPACE, path, "cannot store ",
                 ": it needs " + std::to_string(needed) + " bytes, and the disk has " + std::to_string(free) + " left");
}

// What it takes the place of makes room.
Status checkQuota(const View& view, const UploadTarget& target, uint64_t size) {
  size = std::max(size, storage::LEAST_CHARGE);
  uint64_t before = uint64_t(contentAt(view.root(), target.path));
  Status fits = size > before ? view.mayGrow(size - before) : okStatus();
  return fits.ok() ? fits : Status(Error{fits.error().code, fits.error().message, target.path});
}

// What create() does on the pool.
struct Creation {
  UploadTarget target;
  std::optional<uint64_t> expectedSize;
  std::shared_ptr<const Grant> grant;
  Meters meters;
  bool mayCheck = true;  // no mutation of the connection is on its way that could change the answer

  Result<std::shared_ptr<StagedContent>> begin(FolderState& folder, const View& view) const {
    const std::string& resumeName = target.resumeName;
    Status counted = folder.leftovers->prepare(*grant, meters, resumeName);
    if (!counted.ok()) return counted.error();
    const Root& root = view.root();
    Staging& staging = view.staging();
    Status status = mayCheck ? checkEarly(root, target) : validatePath(target.path);
    if (!status.ok()) return status.error();
    auto file = resumeName.empty() ? staging.create() : staging.resume(resumeName);
    if (!file.ok()) return file.error();
    struct stat staged {};
    fstat((*file)->fd(), &staged);
    uint64_t there = uint64_t(staged.st_size);
    if (expectedSize && *expectedSize > there) status = checkSpace(staging.fd(), *expectedSize - there, target.path);
    if (expectedSize && status.ok()) status = checkQuota(view, target, *expectedSize);
    if (!status.ok()) return status.error();
    auto content = std::make_shared<StagedContent>(std::move(*file));
    status = target.base.empty() ? okStatus() : openBase(root, *content);
    if (!status.ok()) return status.error();
    return content;
  }

 private:
  // A symlink is not followed: what it points to has another version than itself.
  Status openBase(const Root& root, StagedContent& content) const {
    auto fd = root.open(target.path, O_RDONLY, Follow::NO);
    if (!fd.ok()) return fd.error();
    struct stat status;
    if (fstat(*fd, &status) < 0) return errorFromErrno(errno, "cannot open", target.path);
    if (!S_ISREG(status.st_mode) || storage::versionOf(status) != target.base) {
      return errorAt(ErrorCode::CONFLICT, target.path, "", " is not the version any more that the upload is based on");
    }
    content.setBase(kj::mv(*fd), target.base);
    return okStatus();
  }
};

// What a put needs when its turn comes.
struct StagedPut {
  std::shared_ptr<StagedFile> file;
  std::shared_ptr<Run> run;
};

using Content = Result<std::shared_ptr<StagedContent>>;

// Reads what is staged already, slice by slice, as long as the connection is there.
kj::Promise<Content> takeUp(FolderState& folder, ConnectionScope& scope, Content content) {
  if (!content.ok()) return kj::mv(content);
  if (scope.gone) return Content(connectionGoneError());
  auto job = folder.run(scope, [content = *content]() { return content->resumeStep(); });
  return job.then([&folder, &scope, content = kj::mv(content)](Result<bool> done) mutable -> kj::Promise<Content> {
    if (!done.ok()) return Content(done.error());
    if (!*done) return takeUp(folder, scope, kj::mv(content));
    return kj::mv(content);
  });
}

// A copy of the call's own, with what is counted of it. Belongs to the loop, save what the job uses.
struct RunningCopy {
  std::shared_ptr<TreeCopy> tree;
  Meters::Charge staged;

  // Counts what came since; what a step copies is not much.
  Status count() {
    uint64_t there = tree->contentBytes();
    return there > staged.amount() ? staged.grow(there - staged.amount()) : okStatus();
  }
};

// The copy uses the view's root.
kj::Promise<Status> runCopy(FolderState& folder, ConnectionScope& scope, std::shared_ptr<const View> view,
                            std::shared_ptr<RunningCopy> copy) {
  auto job = folder.run(scope, [view, tree = copy->tree]() {
    auto done = tree->step();
    // It is not worth while to go on with what there will be no room for, as soon as that is known.
    Status fits = done.ok() && !*done ? view->mayGrow(tree->contentBytes()) : okStatus();
    return fits.ok() || storage::isBeingMeasured(fits.error()) ? done : Result<bool>(fits.error());
  });
  return job.then(
      [&folder, &scope, view = kj::mv(view), copy = kj::mv(copy)](Result<bool> done) mutable -> kj::Promise<Status> {
        if (!done.ok()) return Status(done.error());
        Status counted = copy->count();
        if (!counted.ok() || *done) return counted;
        return runCopy(folder, scope, kj::mv(view), kj::mv(copy));
      });
}

}  // namespace

kj::Promise<void> FileStoreServer::create(CreateContext context) {
  auto params = context.getParams();
  auto options = params.getOptions();
  auto answerError = [](CreateContext& context, const Error& error) {
    auto results = context.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setUpload(rpc::failed<schema::Upload>(error));
  };
  auto refuse = [&](const Error& error) -> kj::Promise<void> {
    answerError(context, error);
    return kj::READY_NOW;
  };
  if (scope->shuttingDown) return refuse(shuttingDownError());
  auto target = targetOf(params.getPath(), options);
  if (!target.ok()) return refuse(target.error());
  if (options.getResumeKey().size() > MAX_RESUME_KEY_BYTES) {
    return refuse(
        errorAt(ErrorCode::INVALID_ARGUMENT, target->path, "the resume key for ", " is longer than 64 bytes"));
  }
  auto slot = Slot::take(kj::addRef(*access), Resource::UPLOADS, "cannot begin the upload of", target->path);
  if (!slot.ok()) return refuse(slot.error());
  auto& lease = *access->lease;
  if (options.getResumeKey().size() > 0) {
    target->resumeName = Staging::resumeNameOf(access->grant().id, joinPath(view->top(), target->path),
                                               rpc::asView(options.getResumeKey()));
  }
  Creation creation{*target, {}, lease.grant, lease.meters, !view->hasPending(*scope)};
  if (options.getExpectedSize().isKnown()) creation.expectedSize = options.getExpectedSize().getKnown();
  context.releaseParams();

  return view
      ->run(*scope,
            [&folder = folder, creation = std::move(creation), view = view]() { return creation.begin(folder, *view); })
      .then([&folder = folder, scope = kj::addRef(*scope)](Content content) mutable {
        auto& connection = *scope;
        return takeUp(folder, connection, kj::mv(content)).attach(kj::mv(scope));
      })
      .then([&folder = folder, view = view, answerError, context, target = std::move(*target),
             slot = std::move(*slot)](Content content) mutable {
        if (!content.ok()) return answerError(context, content.error());
        auto staged = slot.none(Resource::STAGED_BYTES);
        if (!target.resumeName.empty()) folder.leftovers->take(target.resumeName);
        Status counted = staged.grow((*content)->size());  // of an upload that is taken up again
        if (!counted.ok()) return answerError(context, counted.error());
        auto results = context.getResults();
        results.setOffset((*content)->size());
        results.setUpload(newGuarded<UploadServer>(folder, view, kj::mv(slot), std::move(target), std::move(*content),
                                                   std::move(staged)));
      });
}

kj::Promise<void> FileStoreServer::put(PutContext context) {
  auto params = context.getParams();
  if (scope->shuttingDown) return fail(context, shuttingDownError());
  auto target = targetOf(params.getPath(), params.getOptions());
  if (!target.ok()) return fail(context, target.error());
  auto check = rpc::read(params.getCheck());
  if (!check.ok()) return fail(context, check.error());
  if (params.getContent().size() > MAX_PUT_BYTES) {
    return fail(context, errorAt(ErrorCode::TOO_LARGE, target->path, "the content for ",
                                 " is larger than a put takes, which is " + std::to_string(MAX_PUT_BYTES) +
                                     " bytes; use an upload"));
  }
  // The place in the order is taken now; staging goes on beside that of others.
  auto ticket = view->takeTicket(*scope);
  auto content = textOf(params.getContent());
  context.releaseParams();
  return view
      ->run(*scope,
            [view = view, target = *target, content = std::move(content), check = std::move(*check),
             client = scope->client]() -> Result<StagedPut> {
              auto run = view->runOf(target.run, client);
              if (!run.ok()) return run.error();
              auto file = stageWhole(view->staging(), target.path, target.attributes, content, check);
              if (!file.ok()) return file.error();
              return StagedPut{std::move(*file), std::move(*run)};
            })
      .then([view = view, target = std::move(*target),
             ticket = kj::mv(ticket)](Result<StagedPut> put) mutable -> kj::Promise<Result<Entry>> {
        if (!put.ok()) return Result<Entry>(put.error());
        PlaceFile options{target.path, target.expectation, target.attributes, target.makeParents, false};
        return view->submit(kj::mv(ticket), makePlaceFile(std::move(put->file), std::move(options)),
                            std::move(put->run));
      })
      .then([context](Result<Entry> entry) mutable { answerEntry(context.getResults(), entry); });
}

kj::Promise<void> FileStoreServer::makeDirectory(MakeDirectoryContext context) {
  auto params = context.getParams();
  auto attributes = rpc::read(params.getAttributes());
  if (!attributes.ok()) return fail(context, attributes.error());
  auto mutation = makeMakeDirectory(textOf(params.getPath()), *attributes, params.getParents());
  return mutate(*view, *scope, context, std::move(mutation));
}

kj::Promise<void> FileStoreServer::symlink(SymlinkContext context) {
  auto params = context.getParams();
  auto attributes = rpc::read(params.getAttributes());
  if (!attributes.ok()) return fail(context, attributes.error());
  auto mutation = makeSymlink({textOf(params.getPath()), textOf(params.getTarget()), rpc::read(params.getExpectation()),
                               *attributes, params.getMakeParents()});
  return mutate(*view, *scope, context, std::move(mutation));
}

kj::Promise<void> FileStoreServer::setMetadata(SetMetadataContext context) {
  auto params = context.getParams();
  auto attributes = rpc::read(params.getAttributes());
  if (!attributes.ok()) return fail(context, attributes.error());
  auto mutation = makeSetMetadata(textOf(params.getPath()), *attributes, rpc::read(params.getExpectation()));
  return mutate(*view, *scope, context, std::move(mutation));
}

kj::Promise<void> FileStoreServer::rename(RenameContext context) {
  auto params = context.getParams();
  auto mutation = makeRename({textOf(params.getFrom()), textOf(params.getTo()), rpc::read(params.getFromExpectation()),
                              rpc::read(params.getToExpectation()), params.getMakeParents()});
  return mutate(*view, *scope, context, std::move(mutation));
}

kj::Promise<void> FileStoreServer::copy(CopyContext context) {
  rpc::allowCancellation(context);
  if (scope->shuttingDown) return fail(context, shuttingDownError());
  auto params = context.getParams();
  CopyOptions options{textOf(params.getFrom()), textOf(params.getTo()), rpc::read(params.getFromExpectation()),
                      rpc::read(params.getToExpectation()), params.getMakeParents()};
  context.releaseParams();
  options.modes = view->modes();
  auto tree = std::make_shared<TreeCopy>(view->root(), view->staging(), view->disk(), std::move(options));
  auto staged = access->lease->meters.takeAnyway(Resource::STAGED_BYTES, 0);
  auto copy = std::make_shared<RunningCopy>(RunningCopy{kj::mv(tree), kj::mv(staged)});
  auto ticket = view->takeTicket(*scope);
  // What is copied is what the calls before this one have left.
  auto turn = view->turnOf(ticket);
  return turn
      .then([&folder = folder, &scope = *scope, view = view, copy]() { return runCopy(folder, scope, view, copy); })
      .then([view = view, copy, ticket = kj::mv(ticket)](Status status) mutable -> kj::Promise<Result<Entry>> {
        if (!status.ok()) return Result<Entry>(status.error());
        return view->submit(kj::mv(ticket), makePlaceCopy(copy->tree)).attach(kj::mv(copy->staged));
      })
      .then([context](Result<Entry> entry) mutable { answerEntry(context.getResults(), entry); });
}

kj::Promise<void> FileStoreServer::remove(RemoveContext context) {
  auto params = context.getParams();
  auto mutation = makeRemove(textOf(params.getPath()), params.getRecursive(), rpc::read(params.getExpectation()));
  return mutate(*view, *scope, context, std::move(mutation));
}

}  // namespace capstan::server::files
