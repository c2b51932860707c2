#include <capstan/client/watch.h>

#include <kj/refcount.h>

#include <capstan/client/links.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::client {

namespace {

// What one watching knows, from one connection to the next.
struct Watching : public kj::Refcounted {
  WatchSettings settings;
  std::string cursor;  // behind all that was told
  uint64_t attempt = 0;
  bool ended = false;

  explicit Watching(WatchSettings settings) : settings(std::move(settings)), cursor(this->settings.since) {}
};

// Answers one connection's notices.
class WatcherServer final : public schema::Watcher::Server {
 public:
  WatcherServer(kj::Own<Watching> watching, Links& links)
      : watching(kj::mv(watching)), links(links), attempt(this->watching->attempt) {}

 protected:
  kj::Promise<void> notify(NotifyContext context) override {
    // What an old connection still says, the new one says again.
    if (watching->ended || watching->attempt != attempt) return kj::READY_NOW;
    auto params = context.getParams();
    Notices told;
    for (auto notice : params.getNotices()) {
      told.notices.push_back({NoticeKind(notice.getKind()), std::string(rpc::asView(notice.getPath())),
                              std::string(rpc::asView(notice.getFrom())), rpc::read(notice.getEntry())});
    }
    told.cursor = rpc::asView(params.getCursor());
    told.overflow = params.getOverflow();
    watching->cursor = told.cursor;
    links.progressed();
    watching->settings.onNotices(std::move(told));
    return kj::READY_NOW;
  }

 private:
  kj::Own<Watching> watching;
  Links& links;  // outlives the watching, after which it is not used
  const uint64_t attempt;
};

WatchMeans readMeans(schema::WatchMeans::Reader from) {
  WatchMeans means;
  switch (from.getMethod()) {
    case schema::WatchMeans::Method::FANOTIFY: means.method = "fanotify"; break;
    case schema::WatchMeans::Method::INOTIFY: means.method = "inotify"; break;
    case schema::WatchMeans::Method::POLLING: means.method = "polling"; break;
    default: means.method = "unknown";
  }
  means.interval = from.getInterval();
  means.partly = from.getPartly();
  return means;
}

// Why the server tells nothing any more. Never if it cannot say: an older one does not know the call.
kj::Promise<Status> whenEnded(schema::Subscription::Client& subscription) {
  return subscription.endedRequest().send().then(
      [](capnp::Response<schema::Subscription::EndedResults>&& response) -> kj::Promise<Status> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Status(kj::mv(*error));
        }
        return Status(Error{ErrorCode::CANCELLED, "the server ended the watching", {}});
      },
      [](kj::Exception&& exception) -> kj::Promise<Status> {
        if (exception.getType() == kj::Exception::Type::UNIMPLEMENTED) return kj::NEVER_DONE;
        return kj::mv(exception);
      });
}

// Where no call is under way that would fail with the connection.
kj::Promise<Status> whenDisconnected(Connection& connection) {
  return connection.onDisconnect().then(
      []() -> kj::Promise<Status> { return KJ_EXCEPTION(DISCONNECTED, "the server closed it"); });
}

kj::Promise<Status> watchOn(Connection& connection, Watching& watching, Links& links) {
  ++watching.attempt;
  auto request = connection.fileStore().watchRequest();
  request.setWatcher(kj::heap<WatcherServer>(kj::addRef(watching), links));
  request.setSince(rpc::asData(watching.cursor));
  auto options = request.initOptions();
  options.setPath(rpc::asData(watching.settings.path));
  options.setMinimumInterval(watching.settings.minimumInterval);
  return request.send().then([&watching, &links, &connection](
                                 capnp::Response<schema::FileStore::WatchResults>&& response) -> kj::Promise<Status> {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      return Status(kj::mv(*error));
    }
    links.progressed();
    // With a cursor that the server does not know, its first notice tells where it goes on.
    if (watching.cursor.empty()) watching.cursor = rpc::asView(response.getCursor());
    if (watching.settings.onBegin) watching.settings.onBegin(readMeans(response.getMeans()), watching.cursor);
    auto subscription = response.getSubscription();
    return whenEnded(subscription).exclusiveJoin(whenDisconnected(connection)).attach(kj::mv(subscription));
  });
}

}  // namespace

std::string_view nameOf(NoticeKind kind) {
  switch (kind) {
    case NoticeKind::CREATED: return "created";
    case NoticeKind::CHANGED: return "changed";
    case NoticeKind::REMOVED: return "removed";
    case NoticeKind::MOVED: return "moved";
    case NoticeKind::SUBTREE: return "subtree";
    case NoticeKind::UNSET: break;
  }
  return "unknown";
}

kj::Promise<Status> watchTree(Links& links, WatchSettings settings) {
  auto watching = kj::refcounted<Watching>(std::move(settings));
  Watching& w = *watching;
  auto end = kj::defer([watching = kj::mv(watching)]() mutable { watching->ended = true; });
  auto call = [&w, &links](Connection& connection) { return watchOn(connection, w, links); };
  return links.run<Unit>(Repeat::YES, kj::mv(call)).attach(kj::mv(end));
}

}  // namespace capstan::client
