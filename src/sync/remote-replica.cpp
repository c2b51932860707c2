#include <capstan/sync/remote-replica.h>

#include <capstan/sync/remote-apply.h>
#include <capstan/sync/remote-content.h>
#include <capstan/sync/remote-look.h>
#include <capstan/sync/remote-watch.h>

namespace capstan::sync {

namespace {

class RemoteReplica final : public Replica {
 public:
  RemoteReplica(client::Client& client, RemoteOptions options)
      : place{client, std::move(options.path)}, keepsWatching(options.watch), mayMake(options.mayMake), watch(place) {}

  kj::Promise<Result<Look>> look(const State& state, const IgnoreRules& ignore, LookOptions options) override;
  kj::Promise<Result<std::optional<Node>>> stat(std::string path) override;
  kj::Promise<std::vector<Result<std::string>>> digests(std::vector<std::string> paths) override {
    return remoteDigests(place, std::move(paths));
  }
  kj::Promise<Result<Fetched>> fetch(std::string path, Node expected) override {
    return fetchRemote(place, std::move(path), std::move(expected));
  }
  kj::Promise<Result<kj::Own<Content>>> open(std::string path, Node expected) override {
    return openRemote(place, std::move(path), std::move(expected));
  }
  kj::Promise<std::vector<Result<Done>>> apply(std::vector<Operation> operations, Replica& from,
                                               const ApplyOptions& options) override;
  kj::Promise<void> onChange() override;
  std::string watching() const override {
    if (!watch.isStanding()) return "none";
    return watch.isSlow() ? "notices of the server, which polls" : "notices of the server";
  }

 private:
  const RemotePlace place;
  const bool keepsWatching;
  const bool mayMake;
  RemoteWatch watch;
  RemoteStamps stamps;  // since the last look
  bool rootIsMissing = false;
  std::string lastRoot;  // as the last look told it; empty: not known

  kj::Promise<Result<std::optional<Node>>> nothingIn(std::string looked);
  static bool isAbsent(const Error& error) {
    return error.code == ErrorCode::NOT_FOUND || error.code == ErrorCode::NOT_DIRECTORY;
  }
};

kj::Promise<Result<Replica::Look>> RemoteReplica::look(const State& state, const IgnoreRules& ignore,
                                                       LookOptions options) {
  stamps.clear();
  // `this` outlives its promises, as `state` and `ignore` do.
  return watch.catchUp(options.whole ? std::string() : options.cursor)
      .then([this, &state, &ignore,
             again = std::move(options.again)](Result<RemoteWatch::CaughtUp>&& caught) -> kj::Promise<Result<Look>> {
        if (!caught.ok()) return Result<Look>(std::move(caught).error());
        if (!keepsWatching) watch.drop();
        std::optional<NoticedPaths> paths;
        if (!caught->everything) paths = std::move(caught->paths);
        if (paths) {
          for (auto& path : again) (*paths)[path].subtree = true;
        }
        auto job = kj::heap<RemoteLook>(place, state, ignore);
        auto looking = job->run(std::move(paths));
        return looking
            .then([this, cursor = std::move(caught->cursor)](Result<Look>&& look) mutable {
              if (look.ok()) {
                look->cursor = std::move(cursor);
                rootIsMissing = !look->rootExists;
                lastRoot = look->root;
              }
              return kj::mv(look);
            })
            .attach(kj::mv(job));
      });
}

kj::Promise<Result<std::optional<Node>>> RemoteReplica::stat(std::string path) {
  using Answer = kj::Promise<Result<std::optional<Node>>>;
  // `this` outlives its promises.
  return place.client.stat(place.atServer(path)).then([this](Result<Entry>&& entry) -> Answer {
    if (entry.ok()) return Result<std::optional<Node>>(nodeOf(*entry));
    if (isAbsent(entry.error())) return nothingIn(lastRoot);
    return Result<std::optional<Node>>(std::move(entry).error());
  });
}

// Nothing is at a path: that says something only while the folder is the one that was looked at.
kj::Promise<Result<std::optional<Node>>> RemoteReplica::nothingIn(std::string looked) {
  if (looked.empty()) return Result<std::optional<Node>>(std::optional<Node>());
  return place.client.stat(place.folder)
      .then([this, looked = std::move(looked)](Result<Entry>&& root) -> Result<std::optional<Node>> {
        if (root.ok() && std::to_string(root->identity) == looked) return std::optional<Node>();
        if (!root.ok() && !isAbsent(root.error())) return std::move(root).error();
        return errorAt(ErrorCode::IO, place.folder, "", " at the server is not the folder any more that was looked at");
      });
}

kj::Promise<std::vector<Result<Replica::Done>>> RemoteReplica::apply(std::vector<Operation> operations, Replica& from,
                                                                     const ApplyOptions& options) {
  bool makeRoot = rootIsMissing && mayMake && !place.folder.empty();
  auto onDone = [this](const Operation& operation, const Done& done) {
    rootIsMissing = false;
    watch.expectOwn(operation.path, done.node ? done.node->stamp : std::string());
    if (operation.kind == Operation::Kind::MOVE) watch.expectOwn(operation.source, {});
  };
  auto job = kj::heap<RemoteApply>(place, std::move(operations), from, options, stamps, makeRoot, onDone);
  watch.beginOwnChanges();
  auto running = job->run();
  return running.attach(kj::defer([this]() { watch.endOwnChanges(); }), kj::mv(job));
}

kj::Promise<void> RemoteReplica::onChange() {
  if (!keepsWatching) return kj::NEVER_DONE;
  return watch.onChange();
}

}  // namespace

kj::Own<Replica> newRemoteReplica(client::Client& client, kj::Timer&, RemoteOptions options) {
  return kj::heap<RemoteReplica>(client, std::move(options));
}

}  // namespace capstan::sync
