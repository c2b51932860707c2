#include <capstan/sync/remote-watch.h>

namespace capstan::sync {

namespace {

// Where more is told between two looks, everything is listed: that takes no longer, and no memory.
constexpr size_t MOST_PATHS = 50'000;

}  // namespace

// Between the watch, which may end at any time, and the Watcher that the server holds.
class RemoteWatch::Link final : public kj::Refcounted {
 public:
  explicit Link(RemoteWatch& watch) : watch(watch) {}

  void detach() { watch = nullptr; }
  schema::Watcher::Client newWatcher() { return kj::heap<Server>(kj::addRef(*this)); }

 private:
  class Server final : public schema::Watcher::Server {
   public:
    explicit Server(kj::Own<Link> link) : link(kj::mv(link)) {}
    // The server holds a Watcher until the subscription or the connection ends.
    ~Server() noexcept(false) {
      KJ_IF_MAYBE (watch, link->watch) watch->lost(*link);
    }

    kj::Promise<void> notify(NotifyContext context) override {
      auto params = context.getParams();
      KJ_IF_MAYBE (watch, link->watch) watch->take(params.getNotices(), params.getOverflow());
      context.initResults();
      return kj::READY_NOW;
    }

   private:
    kj::Own<Link> link;
  };

  kj::Maybe<RemoteWatch&> watch;
};

RemoteWatch::RemoteWatch(const RemotePlace& place) : place(place) {}

RemoteWatch::~RemoteWatch() noexcept(false) { drop(); }

void RemoteWatch::drop() {
  if (link.get() != nullptr) link->detach();
  link = nullptr;
  subscription = nullptr;
}

void RemoteWatch::lost(Link& from) {
  if (link.get() != &from) return;
  drop();
  wake();
}

kj::Promise<Result<RemoteWatch::CaughtUp>> RemoteWatch::catchUp(std::string since) {
  if (since.empty()) lastCursor.clear();
  if (link.get() != nullptr) {
    // `this` outlives its promises, as RemoteReplica's contract has it.
    return flush(since).catch_([this, since](kj::Exception&& exception) -> kj::Promise<Result<CaughtUp>> {
      if (!rpc::isDisconnected(exception)) return Result<CaughtUp>(RemotePlace::failureIn(kj::mv(exception)));
      drop();
      return catchUp(since);
    });
  }
  return subscribe(since).then([this, since](Result<std::string>&& cursor) -> kj::Promise<Result<CaughtUp>> {
    if (!cursor.ok()) return Result<CaughtUp>(std::move(cursor).error());
    if (isRefused) return Result<CaughtUp>(CaughtUp{true, {}, {}});
    return flush(since).catch_(
        [](kj::Exception&& exception) -> Result<CaughtUp> { return RemotePlace::failureIn(kj::mv(exception)); });
  });
}

// Answers the cursor; without a subscription if the server has none to give.
kj::Promise<Result<std::string>> RemoteWatch::subscribe(std::string since) {
  isRefused = false;
  pending.clear();
  handedOut.clear();
  overflow = wasOverflow = since.empty();
  lastCursor = since;
  return place.with<std::string>([this, since](schema::FileStore::Client& store) {
    auto request = store.watchRequest();
    auto fresh = kj::refcounted<Link>(*this);
    request.setWatcher(fresh->newWatcher());
    request.setSince(rpc::asData(since));
    request.initOptions().setPath(rpc::asData(place.folder));
    link = kj::mv(fresh);
    auto call = request.send();
    subscription = call.getSubscription();
    return call.then(
        [this](capnp::Response<schema::FileStore::WatchResults>&& response) -> Result<std::string> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            drop();
            isRefused = error->code == ErrorCode::LIMIT || error->code == ErrorCode::UNSUPPORTED ||
                        error->code == ErrorCode::DENIED || error->code == ErrorCode::NOT_FOUND;
            if (isRefused) return std::string();
            return kj::mv(*error);
          }
          auto means = response.getMeans();
          serverPolls = means.getMethod() == schema::WatchMeans::Method::POLLING || means.getPartly();
          return std::string(rpc::asView(response.getCursor()));
        },
        [this](kj::Exception&& exception) -> Result<std::string> {
          drop();
          Error error = RemotePlace::failureIn(kj::mv(exception));
          // A server from before there was watching.
          isRefused = error.code == ErrorCode::UNSUPPORTED;
          if (isRefused) return std::string();
          return error;
        });
  });
}

kj::Promise<Result<RemoteWatch::CaughtUp>> RemoteWatch::flush(std::string since) {
  auto request = KJ_ASSERT_NONNULL(subscription).flushRequest();
  return request.send().then(
      [this, since](capnp::Response<schema::Subscription::FlushResults>&& response) -> Result<CaughtUp> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return kj::mv(*error);
        }
        return handOut(since, std::string(rpc::asView(response.getCursor())));
      });
}

RemoteWatch::CaughtUp RemoteWatch::handOut(const std::string& since, std::string cursor) {
  // What was handed out before counts as dealt with only if the cursor that came with it is back.
  if (since != lastCursor || since.empty()) {
    overflow = overflow || wasOverflow || since.empty();
    for (auto& [path, noticed] : pending) {
      Noticed& merged = handedOut[path];
      merged.entry = std::move(noticed.entry);
      merged.subtree = merged.subtree || noticed.subtree;
    }
    pending = std::move(handedOut);
    overflow = overflow || pending.size() > MOST_PATHS;
  }
  handedOut = overflow ? NoticedPaths() : std::move(pending);
  pending.clear();
  wasOverflow = overflow;
  overflow = false;
  awake = false;
  own.clear();
  lastCursor = cursor;
  return {wasOverflow, wasOverflow ? NoticedPaths() : handedOut, std::move(cursor)};
}

void RemoteWatch::take(capnp::List<schema::Notice>::Reader notices, bool overflowed) {
  if (overflowed) {
    overflow = true;
    pending.clear();
  }
  // After an overflow everything will be listed: nothing needs to be remembered for that.
  for (auto notice : notices) {
    if (overflow) break;
    takeNotice(notice);
    if (pending.size() <= MOST_PATHS) continue;
    overflow = true;
    pending.clear();
  }
  wakeIfForeign();
}

void RemoteWatch::takeNotice(schema::Notice::Reader notice) {
  using Kind = schema::Notice::Kind;
  Entry entry = rpc::read(notice.getEntry());
  std::string_view path = rpc::asView(notice.getPath());
  Kind kind = notice.getKind();
  // A folder that was not there before may hold things that came with it.
  bool subtree = kind != Kind::CHANGED || entry.type == EntryType::UNSET;
  note(path, std::move(entry), subtree);
  if (kind == Kind::MOVED) note(rpc::asView(notice.getFrom()), std::nullopt, true);
}

void RemoteWatch::note(std::string_view path, std::optional<Entry> entry, bool subtree) {
  if (!isWithin(path, place.folder)) {
    // Above the folder: a change of its metadata is nothing to us, all else may have taken it away.
    if (subtree && isWithin(place.folder, path)) overflow = true;
    return;
  }
  auto relative = place.within(path);
  if (!relative.ok() || relative->empty()) {
    // What is no path is not looked for: the listing says what there is.
    if (subtree || !relative.ok()) overflow = true;
    return;
  }
  Noticed& noticed = pending[std::move(*relative)];
  noticed.entry = std::move(entry);
  noticed.subtree = noticed.subtree || subtree;
}

void RemoteWatch::expectOwn(std::string path, std::string version) {
  // The folder's time changes with it.
  own.emplace(std::string(parentOf(path)), "-");
  own[std::move(path)] = std::move(version);
}

void RemoteWatch::endOwnChanges() {
  --ownChanges;
  wakeIfForeign();
}

bool RemoteWatch::isOwn(const std::string& path, const Noticed& noticed) const {
  if (!noticed.entry) return own.count(path) != 0;
  auto found = own.find(path);
  if (found == own.end()) return false;
  if (noticed.entry->type == EntryType::DIRECTORY) return !found->second.empty();
  return noticed.entry->version == found->second;
}

void RemoteWatch::wakeIfForeign() {
  if (ownChanges > 0 || awake) return;
  bool foreign = overflow;
  for (auto& [path, noticed] : pending) {
    if (foreign) break;
    foreign = !isOwn(path, noticed);
  }
  if (foreign) wake();
}

void RemoteWatch::wake() {
  awake = true;
  auto all = std::move(waiting);
  waiting.clear();
  for (auto& fulfiller : all) fulfiller->fulfill();
}

kj::Promise<void> RemoteWatch::onChange() {
  if (awake) return kj::READY_NOW;
  std::erase_if(waiting, [](auto& fulfiller) { return !fulfiller->isWaiting(); });
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

}  // namespace capstan::sync
