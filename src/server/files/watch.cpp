#include <capstan/server/files/watch.h>

#include <fcntl.h>

#include <algorithm>

#include <capstan/base/log.h>
#include <capstan/base/path.h>
#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/file-store.h>
#include <capstan/server/files/noticing.h>

namespace capstan::server::files {

namespace {

constexpr uint64_t MAX_INTERVAL = 3600'000'000'000;

class TreeLookup final : public Lookup {
 public:
  TreeLookup(const FolderState& folder, const View& view) : folder(folder), view(view) {}

  std::optional<Entry> entryAt(const std::string& path) override {
    auto fd = view.root().open(path, O_PATH | O_NOFOLLOW, Follow::NO);
    if (fd.ok()) {
      auto entry = folder.entryOf(*fd, path);
      if (entry.ok()) return std::move(*entry);
    } else if (fd.error().code == ErrorCode::NOT_FOUND || fd.error().code == ErrorCode::NOT_DIRECTORY) {
      return std::nullopt;
    }
    Entry hidden;
    hidden.path = path;
    hidden.type = EntryType::OTHER;
    return hidden;
  }

 private:
  const FolderState& folder;
  const View& view;
};

void write(schema::WatchMeans::Builder to, const Noticing::Means& means) {
  to.setMethod(schema::WatchMeans::Method(means.method));
  to.setInterval(means.interval);
  to.setPartly(means.partly);
}

}  // namespace

kj::Promise<void> FileStoreServer::watch(WatchContext context) {
  auto refuse = [](WatchContext& context, const Error& error) {
    auto results = context.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setSubscription(rpc::failed<schema::Subscription>(error));
  };
  auto params = context.getParams();
  auto options = params.getOptions();
  auto interval = std::min<uint64_t>(options.getMinimumInterval(), MAX_INTERVAL);
  WatchSettings settings{std::string(rpc::asView(options.getPath())), int64_t(interval) * kj::NANOSECONDS};
  Status valid = validatePath(settings.path);
  if (valid.ok() && view->root().reserves(settings.path)) {
    valid = errorAt(ErrorCode::NOT_FOUND, settings.path, "there is no file or folder ");
  }
  if (valid.ok() && scope->shuttingDown) valid = shuttingDownError();
  Result<Slot> place = valid.ok() ? Slot::take(kj::addRef(*access), Resource::SUBSCRIPTIONS) : valid.error();
  if (!place.ok()) {
    refuse(context, place.error());
    return kj::READY_NOW;
  }
  std::string since(rpc::asView(params.getSince()));
  auto watcher = params.getWatcher();
  WatchSlot slot(std::move(*place), *folder.noticing);
  context.releaseParams();
  return folder.noticing->catchUps.join(folder).then(
      [&folder = folder, view = view, refuse, context, since = std::move(since), watcher = kj::mv(watcher),
       settings = std::move(settings), slot = kj::mv(slot)](Result<uint64_t> end) mutable {
        if (!end.ok()) return refuse(context, end.error());
        auto& journal = folder.noticing->journal;
        std::optional<uint64_t> position = since.empty() ? *end : journal.numberOf(since);
        auto results = context.getResults();
        results.setCursor(rpc::asData(journal.cursorOf(position.value_or(*end))));
        write(results.initMeans(), folder.noticing->means());
        results.setSubscription(
            newGuarded<SubscriptionServer>(folder, view, kj::mv(slot), kj::mv(watcher), std::move(settings), position));
      });
}

SubscriptionServer::SubscriptionServer(FolderState& folder, std::shared_ptr<const View> view, WatchSlot slotParam,
                                       schema::Watcher::Client watcherParam, WatchSettings settings,
                                       std::optional<uint64_t> from)
    : Guarded(kj::addRef(slotParam.access())),
      folder(folder),
      view(std::move(view)),
      slot(kj::mv(slotParam)),
      watcher(kj::mv(watcherParam)),
      settings(std::move(settings)),
      timer(KJ_ASSERT_NONNULL(slot).connection().timer),
      position(from.value_or(folder.noticing->journal.end())),
      answered(position),
      overflow(!from),
      // The first turn comes later, so that the answer to `watch` is sent before the first notice. `this`: a member.
      running(kj::evalLater([this]() { return run(); }).eagerlyEvaluate([this](kj::Exception&& exception) {
        fail(kj::mv(exception));
      })) {}

kj::Promise<void> SubscriptionServer::run() {
  return waitForChanges().then([this]() { return waitForInterval(); }).then([this]() { return tell(); }).then([this]() {
    return run();
  });
}

kj::Promise<void> SubscriptionServer::waitForChanges() {
  if (overflow) return kj::READY_NOW;
  return folder.noticing->journal.reaches(position);
}

kj::Promise<void> SubscriptionServer::waitForInterval() {
  if (timer == nullptr || timer->now() >= earliest || !waiting.empty()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  hurry = kj::mv(paf.fulfiller);
  return timer->atTime(earliest).exclusiveJoin(kj::mv(paf.promise));
}

// One call to the watcher, if something has changed that it watches.
kj::Promise<void> SubscriptionServer::tell() {
  auto page = folder.noticing->journal.read(position, folder.options.watchNotices);
  position = page.next;
  overflow = overflow || page.overflow;
  Coalescing coalescing;
  for (auto& change : page.changes) {
    auto mine = view->see(std::move(change), settings.path);
    if (mine) coalescing.add(*mine);
  }
  auto changes = coalescing.take();
  if (changes.empty() && !overflow) return told(position);
  return folder
      .run(access->connection(),
           [&folder = folder, view = view, changes = std::move(changes)]() mutable {
             TreeLookup lookup(folder, *view);
             return Result<std::vector<FilledNotice>>(fillIn(std::move(changes), lookup));
           })
      .then([this](Result<std::vector<FilledNotice>> notices) -> kj::Promise<void> {
        if (notices.ok()) return send(std::move(*notices));
        // The pool's queue is full. What could not be looked at is not lost: the watcher has to look by itself.
        overflow = true;
        return send({});
      });
}

kj::Promise<void> SubscriptionServer::send(std::vector<FilledNotice> notices) {
  if (notices.empty() && !overflow) return told(position);
  if (timer != nullptr) earliest = timer->now() + settings.minimumInterval;
  auto request = KJ_ASSERT_NONNULL(watcher).notifyRequest();
  auto list = request.initNotices(unsigned(notices.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    list[i].setPath(rpc::asData(notices[i].change.path));
    list[i].setKind(schema::Notice::Kind(notices[i].change.kind));
    if (!notices[i].change.from.empty()) list[i].setFrom(rpc::asData(notices[i].change.from));
    rpc::write(list[i].initEntry(), notices[i].entry);
  }
  request.setCursor(rpc::asData(folder.noticing->journal.cursorOf(position)));
  request.setOverflow(overflow);
  overflow = false;
  return request.send().ignoreResult().then([this]() { return told(position); });
}

kj::Promise<void> SubscriptionServer::told(uint64_t number) {
  answered = number;
  std::erase_if(waiting, [number](Waiting& each) {
    if (each.number > number) return false;
    each.fulfiller->fulfill();
    return true;
  });
  return kj::READY_NOW;
}

kj::Promise<void> SubscriptionServer::untilTold(uint64_t number) {
  if (watcher == nullptr || answered >= number) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting.push_back({number, kj::mv(paf.fulfiller)});
  KJ_IF_MAYBE (waiter, hurry) {
    (*waiter)->fulfill();
    hurry = nullptr;
  }
  return kj::mv(paf.promise);
}

kj::Promise<void> SubscriptionServer::flush(FlushContext context) {
  // `this`: the call keeps the capability.
  return folder.noticing->catchUps.join(folder)
      .then([this, context](Result<uint64_t> end) mutable -> kj::Promise<void> {
        if (end.ok()) return untilTold(*end);
        rpc::setError(context.getResults().initOutcome(), end.error());
        return kj::READY_NOW;
      })
      .then([this, context]() mutable {
        auto results = context.getResults();
        results.setCursor(rpc::asData(folder.noticing->journal.cursorOf(answered)));
        if (watcher != nullptr) return;
        rpc::setError(results.initOutcome(),
                      {ErrorCode::CANCELLED, "the watcher's method failed, which ended the subscription", {}});
      });
}

kj::Promise<void> SubscriptionServer::ended(EndedContext context) {
  rpc::allowCancellation(context);
  kj::Promise<void> over = kj::READY_NOW;
  if (watcher != nullptr) {
    auto paf = kj::newPromiseAndFulfiller<void>();
    waitingForEnd.push_back(kj::mv(paf.fulfiller));
    over = kj::mv(paf.promise);
  }
  return over.then([this, context]() mutable {
    rpc::setError(context.getResults().initOutcome(),
                  {ErrorCode::CANCELLED, "the watcher's method failed, which ended the subscription", {}});
  });
}

void SubscriptionServer::fail(kj::Exception&& exception) {
  log::debug("a watcher failed, and is not told any more: ", rpc::errorFromException(exception).message.c_str());
  watcher = nullptr;
  slot = nullptr;
  for (auto& each : waiting) each.fulfiller->fulfill();
  waiting.clear();
  for (auto& each : waitingForEnd) each->fulfill();
  waitingForEnd.clear();
}

}  // namespace capstan::server::files
