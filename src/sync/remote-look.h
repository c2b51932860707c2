// One look at the server's folder: what is not as agreed, from a listing of everything, or of what the server's notices
// name.
#pragma once

#include <capstan/sync/remote-watch.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

// Belongs to one event loop; run() once. All that it is given must outlive its promise.
class RemoteLook {
 public:
  RemoteLook(const RemotePlace& place, const State& state, const IgnoreRules& ignore);
  KJ_DISALLOW_COPY(RemoteLook);

  // Everything, or only these paths where there are some.
  kj::Promise<Result<Replica::Look>> run(std::optional<NoticedPaths> paths);

 private:
  class Merge;
  struct Page {
    capnp::Response<schema::FileStore::ListResults> response;
  };

  const RemotePlace& place;
  const State& state;
  const IgnoreRules& ignore;
  Replica::Look look;
  std::deque<std::pair<std::string, Noticed>> toVisit;

  kj::Promise<Result<Replica::Look>> lookAtRoot(std::optional<NoticedPaths> paths);
  kj::Promise<Status> lookAtAll();
  kj::Promise<Status> lookAtPaths(NoticedPaths paths);
  kj::Promise<Status> visitNext();
  kj::Promise<Status> visit(std::string path, bool subtree, std::optional<Entry> entry);
  // What is in a folder that is there, page after page.
  kj::Promise<Status> listBelow(std::string folder);
  kj::Promise<Status> takePages(kj::Own<Merge> merge, std::string cursor);
  Status takePage(Merge& merge, const schema::FileStore::ListResults::Reader& page);
  Status gone(const std::string& path, bool itself);
  Status cannotList(const std::string& folder, Error error);
  void leaveUnread(const std::string& folder, Error error);
  bool isBelowUnread(std::string_view path) const;
  void forgetBelow(const std::string& folder);
};

}  // namespace capstan::sync
