#include <capstan/sync/remote-look.h>

#include <set>

namespace capstan::sync {

namespace {

using ListResponse = capnp::Response<schema::FileStore::ListResults>;

}  // namespace

// Joins a listing with what was agreed, both in tree order, as the pages come.
class RemoteLook::Merge {
 public:
  Merge(RemoteLook& owner, std::string folder) : folder(std::move(folder)), owner(owner) {}

  Status begin() {
    auto opened = owner.state.read(folder);
    if (!opened.ok()) return std::move(opened).error();
    reader = std::move(*opened);
    return advance();
  }

  Status take(const Entry& entry, std::string path) {
    bool isBelow = path != folder && isWithin(path, folder);
    if (!isBelow || (!lastListed.empty() && comparePaths(path, lastListed) <= 0)) {
      return errorAt(ErrorCode::CORRUPT, place().atServer(path), "the server lists ", " where it cannot be");
    }
    Status passed = passUntil(path);
    if (!passed.ok()) return passed;
    ++owner.look.entries;
    bool agreedHere = atAgreed && reader->path() == path;
    bool isFolder = entry.type == EntryType::DIRECTORY;
    if (owner.ignore.isIgnored(path, isFolder)) return agreedHere ? advance() : okStatus();
    if (entry.type == EntryType::OTHER || entry.type == EntryType::UNSET) {
      // Neither side's business: what was agreed here is neither changed nor gone.
      owner.look.skipped.push_back(path);
      specials.insert(std::move(path));
      return agreedHere ? advance() : okStatus();
    }
    Node node = nodeOf(entry);
    if (agreedHere) {
      const Node& agreed = reader->agreed().remote;
      if (isAsAgreed(node, agreed)) return advance();
      if (agreed.type == node.type && agreed.stamp == node.stamp) node.digest = agreed.digest;
    }
    owner.look.changes.emplace(std::move(path), std::move(node));
    return agreedHere ? advance() : okStatus();
  }

  // The listing is complete: what is left was agreed, and is gone.
  Status end() { return passUntil(std::nullopt); }

  const std::string folder;

 private:
  RemoteLook& owner;
  const RemotePlace& place() const { return owner.place; }
  std::unique_ptr<AgreedReader> reader;
  bool atAgreed = false;
  std::string lastListed;          // the entry before
  std::set<std::string> specials;  // paths that are left alone, with what was agreed below them

  Status advance() {
    auto more = reader->next();
    if (!more.ok()) return std::move(more).error();
    atAgreed = *more;
    return okStatus();
  }

  // What was agreed before `path`, and was not listed, is gone.
  Status passUntil(const std::optional<std::string>& path) {
    while (atAgreed && (!path || comparePaths(reader->path(), *path) < 0)) {
      const std::string& missing = reader->path();
      const Node& agreed = reader->agreed().remote;
      bool isFolder = agreed.type == EntryType::DIRECTORY;
      bool isUnknown = isBelowSpecial(missing) || owner.isBelowUnread(missing);
      if (!isUnknown && !owner.ignore.isIgnored(missing, isFolder)) owner.look.changes.emplace(missing, std::nullopt);
      Status advanced = advance();
      if (!advanced.ok()) return advanced;
    }
    if (path) lastListed = *path;
    return okStatus();
  }

  bool isBelowSpecial(std::string_view path) const {
    if (specials.empty()) return false;
    for (; !path.empty(); path = parentOf(path)) {
      if (specials.count(std::string(path)) != 0) return true;
    }
    return false;
  }
};

RemoteLook::RemoteLook(const RemotePlace& place, const State& state, const IgnoreRules& ignore)
    : place(place), state(state), ignore(ignore) {}

kj::Promise<Result<Replica::Look>> RemoteLook::run(std::optional<NoticedPaths> paths) {
  look.whole = !paths;
  return lookAtRoot(std::move(paths)).catch_([](kj::Exception&& exception) -> Result<Replica::Look> {
    return RemotePlace::failureIn(kj::mv(exception));
  });
}

kj::Promise<Result<Replica::Look>> RemoteLook::lookAtRoot(std::optional<NoticedPaths> paths) {
  // `this` is held by whoever holds the promise, here and below.
  return place.client.stat(place.folder)
      .then([this, paths = std::move(paths)](Result<Entry>&& root) mutable -> kj::Promise<Status> {
        if (!root.ok()) {
          if (root.error().code != ErrorCode::NOT_FOUND) return Status(std::move(root).error());
          look.rootExists = false;
          look.whole = true;
          return gone({}, false);
        }
        if (root->type != EntryType::DIRECTORY) {
          return Status(errorAt(ErrorCode::NOT_DIRECTORY, place.folder, "", " at the server is no folder"));
        }
        if (root->identity != 0) look.root = std::to_string(root->identity);
        return paths ? lookAtPaths(std::move(*paths)) : lookAtAll();
      })
      .then([this](Status&& looked) -> Result<Replica::Look> {
        if (!looked.ok()) return std::move(looked).error();
        return std::move(look);
      });
}

kj::Promise<Status> RemoteLook::lookAtAll() { return listBelow({}); }

kj::Promise<Status> RemoteLook::lookAtPaths(NoticedPaths paths) {
  std::string covered;  // the last subtree that is looked at as a whole
  for (auto& [path, noticed] : paths) {
    if (!covered.empty() && isWithin(path, covered)) continue;
    if (noticed.subtree) covered = path;
    toVisit.emplace_back(path, std::move(noticed));
  }
  return visitNext();
}

kj::Promise<Status> RemoteLook::visitNext() {
  if (toVisit.empty()) return okStatus();
  auto [path, noticed] = std::move(toVisit.front());
  toVisit.pop_front();
  kj::Promise<Status> visited = okStatus();
  // What the server could not look at for a notice is of that type too.
  bool isSure = noticed.entry && noticed.entry->type != EntryType::OTHER;
  if (isSure) {
    visited = visit(path, noticed.subtree, std::move(*noticed.entry));
  } else {
    visited = place.client.stat(place.atServer(path)).then([this, path = path](Result<Entry>&& entry) {
      if (entry.ok()) return visit(path, true, std::move(*entry));
      ErrorCode code = entry.error().code;
      if (code == ErrorCode::NOT_FOUND || code == ErrorCode::NOT_DIRECTORY) return visit(path, true, Entry{});
      // The folder that it is in may not be looked into.
      std::string folder(parentOf(path));
      if (code != ErrorCode::DENIED || folder.empty()) return kj::Promise<Status>(Status(std::move(entry).error()));
      leaveUnread(folder, std::move(entry).error());
      return kj::Promise<Status>(okStatus());
    });
  }
  return visited.then([this](Status&& status) -> kj::Promise<Status> {
    if (!status.ok()) return kj::mv(status);
    return visitNext();
  });
}

// A look into the state is a look into a database: const only in what it answers.
static std::optional<Agreed> findIn(const State& state, std::string_view path) {
  return const_cast<State&>(state).find(path);
}

kj::Promise<Status> RemoteLook::visit(std::string path, bool subtree, std::optional<Entry> entry) {
  if (!entry || entry->type == EntryType::UNSET) return gone(path, true);
  ++look.entries;
  bool isFolder = entry->type == EntryType::DIRECTORY;
  if (ignore.isIgnored(path, isFolder)) return okStatus();
  if (entry->type == EntryType::OTHER) {
    look.skipped.push_back(path);
    return okStatus();
  }
  std::optional<Agreed> agreed = findIn(state, path);
  Node node = nodeOf(*entry);
  bool wasFolder = agreed && agreed->remote.type == EntryType::DIRECTORY;
  // Another folder in the place of the one that was there has other things in it; and one with another mode may have
  // become readable.
  bool isNewFolder =
      isFolder && (!wasFolder || agreed->remote.identity != node.identity || agreed->remote.mode != node.mode);
  if (!agreed || !isAsAgreed(node, agreed->remote)) look.changes.emplace(path, std::move(node));
  if (!isFolder) return wasFolder ? gone(path, false) : okStatus();
  return subtree || isNewFolder ? listBelow(std::move(path)) : kj::Promise<Status>(okStatus());
}

// Nothing is at the path (itself), or nothing can be below it.
Status RemoteLook::gone(const std::string& path, bool itself) {
  if (itself) {
    std::optional<Agreed> agreed = findIn(state, path);
    if (agreed && !ignore.isIgnored(path, agreed->remote.type == EntryType::DIRECTORY))
      look.changes.emplace(path, std::nullopt);
    if (agreed && agreed->remote.type != EntryType::DIRECTORY) return okStatus();
  }
  Merge merge(*this, path);
  Status begun = merge.begin();
  return begun.ok() ? merge.end() : begun;
}

kj::Promise<Status> RemoteLook::listBelow(std::string folder) {
  auto merge = kj::heap<Merge>(*this, std::move(folder));
  Status begun = merge->begin();
  if (!begun.ok()) return begun;
  return takePages(kj::mv(merge), {});
}

kj::Promise<Status> RemoteLook::takePages(kj::Own<Merge> merge, std::string cursor) {
  auto asked = place.with<Page>([this, folder = merge->folder, cursor](schema::FileStore::Client& store) {
    auto request = store.listRequest();
    request.setPath(rpc::asData(place.atServer(folder)));
    request.setRecursive(true);
    request.setCursor(rpc::asData(cursor));
    return request.send().then([](ListResponse&& response) -> Result<Page> { return Page{kj::mv(response)}; });
  });
  return asked.then([this, merge = kj::mv(merge), cursor](Result<Page>&& page) mutable -> kj::Promise<Status> {
    if (!page.ok()) return Status(std::move(page).error());
    auto& response = page->response;
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      if (merge->folder.empty()) return Status(kj::mv(*error));
      return cannotList(merge->folder, kj::mv(*error));
    }
    std::string next(rpc::asView(response.getCursor()));
    auto& mergeRef = *merge;
    if (response.getAtEnd()) {
      Status taken = takePage(mergeRef, response);
      return taken.ok() ? mergeRef.end() : taken;
    }
    if (next == cursor) {
      return Status(errorAt(ErrorCode::IO, merge->folder, "the server does not go on with the listing of ", ""));
    }
    struct Taking {
      Page page;
      kj::Own<Merge> merge;
    };
    auto taking = kj::heap<Taking>(Taking{kj::mv(*page), kj::mv(merge)});
    auto& t = *taking;
    Status taken = takePage(*t.merge, t.page.response);
    if (!taken.ok()) return taken;
    return takePages(kj::mv(t.merge), kj::mv(next));
  });
}

Status RemoteLook::takePage(Merge& merge, const schema::FileStore::ListResults::Reader& page) {
  // Before the entries: those behind such a folder would let what was agreed in it look as if it was gone.
  for (auto reader : page.getUnread()) {
    Error error = rpc::readError(reader);
    auto path = place.within(error.path);
    if (!path.ok()) return std::move(path).error();
    bool isBelow = *path != merge.folder && isWithin(*path, merge.folder);
    if (!isBelow) return errorAt(ErrorCode::CORRUPT, error.path, "the server tells of ", " where it cannot be");
    leaveUnread(*path, std::move(error));
  }
  for (auto reader : page.getEntries()) {
    Entry entry = rpc::read(reader);
    auto path = place.within(entry.path);
    if (!path.ok()) return std::move(path).error();
    Status taken = merge.take(entry, std::move(*path));
    if (!taken.ok()) return taken;
  }
  return okStatus();
}

// A folder within could not be listed: nothing may follow from what is not known of it.
Status RemoteLook::cannotList(const std::string& folder, Error error) {
  // One that went away meanwhile is in a notice for the next look.
  bool isGone = error.code == ErrorCode::NOT_FOUND || error.code == ErrorCode::NOT_DIRECTORY;
  if (isGone) {
    forgetBelow(folder);
    return okStatus();
  }
  if (error.code != ErrorCode::DENIED && error.code != ErrorCode::IO) return error;
  leaveUnread(folder, std::move(error));
  return okStatus();
}

void RemoteLook::leaveUnread(const std::string& folder, Error error) {
  if (ignore.isIgnored(folder, true)) return;
  forgetBelow(folder);
  look.unread.emplace(folder, std::move(error));
}

bool RemoteLook::isBelowUnread(std::string_view path) const {
  if (look.unread.empty()) return false;
  while (!path.empty()) {
    path = parentOf(path);
    if (look.unread.find(path) != look.unread.end()) return true;
  }
  return false;
}

void RemoteLook::forgetBelow(const std::string& folder) {
  auto& changes = look.changes;
  for (auto at = changes.upper_bound(folder); at != changes.end() && isWithin(at->first, folder);) {
    at = changes.erase(at);
  }
}

}  // namespace capstan::sync
