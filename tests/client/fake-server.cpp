#include "fake-server.h"

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/path.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::client {

namespace {

using Nodes = std::map<std::string, FakeNode>;

Error notFound(std::string_view path) { return errorAt(ErrorCode::NOT_FOUND, path, "there is no "); }

// Counts the call and asks the test; answers the error to be given, if any.
kj::Maybe<Error> enter(FakeTree& tree, const char* method, std::string_view path) {
  ++tree.calls[method];
  if (tree.before) return tree.before(method, path);
  return nullptr;
}

kj::Maybe<Error> check(FakeTree& tree, const std::string& path, const Expectation& expectation) {
  if (expectation.kind == Expectation::Kind::ABSENT && tree.has(path)) {
    return errorAt(ErrorCode::EXISTS, path, "", " is there already");
  }
  if (expectation.kind == Expectation::Kind::VERSION &&
      (!tree.has(path) || tree.nodes[path].version != expectation.version)) {
    return errorAt(ErrorCode::CONFLICT, path, "", " has another version");
  }
  return nullptr;
}

void makeParents(FakeTree& tree, const std::string& path) {
  std::string parent(parentOf(path));
  if (parent.empty() || tree.has(parent)) return;
  makeParents(tree, parent);
  tree.folder(parent);
}

// What every commit does.
Result<Entry> store(FakeTree& tree, const std::string& path, std::string content, schema::UploadOptions::Reader options,
                    const ContentCheck& contentCheck) {
  KJ_IF_MAYBE (error, check(tree, path, rpc::read(options.getExpectation()))) {
    return kj::mv(*error);
  }
  if (contentCheck.size && *contentCheck.size != content.size()) return Error{ErrorCode::CORRUPT, "wrong size", path};
  if (contentCheck.algorithm != DigestAlgorithm::UNSET &&
      digestOf(contentCheck.algorithm, content) != contentCheck.digest) {
    return Error{ErrorCode::CORRUPT, "wrong digest", path};
  }
  std::string parent(parentOf(path));
  if (!tree.has(parent)) {
    if (!options.getMakeParents()) return notFound(parent);
    makeParents(tree, path);
  }
  if (!parent.empty() && tree.nodes[parent].type != EntryType::DIRECTORY) {
    return errorAt(ErrorCode::NOT_DIRECTORY, parent, "", " is no folder");
  }
  FakeNode& node = tree.put(path, std::move(content));
  Attributes attributes = *rpc::read(options.getAttributes());
  if (attributes.mode) node.mode = *attributes.mode;
  if (attributes.mtime) node.mtime = *attributes.mtime;
  return tree.entryOf(path);
}

template <typename Context>
void reply(Context&& context, const Result<Entry>& result) {
  auto results = context.getResults();
  if (result.ok()) {
    rpc::write(results.initEntry(), *result);
  } else {
    rpc::setError(results.initOutcome(), result.error());
  }
}

class FakeFile final : public schema::File::Server {
 public:
  FakeFile(FakeTree& tree, std::string path) : tree(tree), path(path), node(tree.nodes[path]) {}

  kj::Promise<void> stat(StatContext context) override {
    Entry entry = tree.entryOf(path);
    entry.version = node.version;
    entry.size = node.content.size();
    reply(context, entry);
    return kj::READY_NOW;
  }

  kj::Promise<void> read(ReadContext context) override {
    auto params = context.getParams();
    std::string_view all = node.content;
    uint64_t from = std::min<uint64_t>(params.getOffset(), all.size());
    std::string_view part = all.substr(from, tree.generousReads ? all.size() : params.getCount());
    auto results = context.getResults();
    KJ_IF_MAYBE (error, enter(tree, "read", path)) {
      rpc::setError(results.initOutcome(), *error);
      return kj::READY_NOW;
    }
    results.setData(rpc::asData(part));
    results.setAtEnd(from + part.size() == all.size());
    return kj::READY_NOW;
  }

  kj::Promise<void> stream(StreamContext context) override {
    auto params = context.getParams();
    uint64_t from = std::min<uint64_t>(params.getOffset(), node.content.size());
    uint64_t to = from + std::min<uint64_t>(params.getCount(), node.content.size() - from);
    KJ_IF_MAYBE (error, enter(tree, "stream", path)) {
      rpc::setError(context.getResults().initOutcome(), *error);
      return kj::READY_NOW;
    }
    auto sink = params.getSink();
    return send(sink, from, to)
        .then([sink]() mutable { return sink.endRequest().send().ignoreResult(); })
        .then([this, context, from, to]() mutable {
          context.getResults().setCount(to - from);
          reply(context, tree.entryOf(path));
        });
  }

  kj::Promise<void> digest(DigestContext context) override {
    auto algorithm = DigestAlgorithm(context.getParams().getAlgorithm());
    ++tree.calls["digest"];
    auto digest = context.getResults().initDigest();
    digest.setAlgorithm(context.getParams().getAlgorithm());
    std::string value = digestOf(algorithm, node.content);
    digest.setValue(rpc::asData(value));
    reply(context, tree.entryOf(path));
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
  std::string path;
  FakeNode node;  // as it was when it was opened

  kj::Promise<void> send(schema::ByteSink::Client sink, uint64_t at, uint64_t to) {
    if (at == to) return kj::READY_NOW;
    uint64_t next = std::min<uint64_t>(at + (64 << 10), to);
    for (auto& hole : node.holes) {
      if (at >= hole.first && at < hole.first + hole.second) {
        next = std::min(to, hole.first + hole.second);
        auto request = sink.skipRequest();
        request.setCount(next - at);
        return request.send().then([this, sink, next, to]() mutable { return send(sink, next, to); });
      }
      if (hole.first > at) next = std::min(next, hole.first);
    }
    auto request = sink.writeRequest();
    request.setData(rpc::asData(std::string_view(node.content).substr(at, next - at)));
    tree.bytesStreamed += next - at;
    return request.send().then([this, sink, next, to]() mutable { return send(sink, next, to); });
  }
};

class FakeUpload final : public schema::Upload::Server {
 public:
  FakeUpload(FakeTree& tree, std::string path, schema::UploadOptions::Reader optionsReader)
      : tree(tree), path(std::move(path)), key(rpc::asView(optionsReader.getResumeKey())) {
    message.setRoot(optionsReader);
    options = message.getRoot<schema::UploadOptions>().asReader();
    if (!key.empty()) content = tree.staged[key];
  }

  kj::Promise<void> write(WriteContext context) override {
    KJ_IF_MAYBE (error, enter(tree, "write", path)) {
      return rpc::exceptionFromError(*error);
    }
    auto data = rpc::asView(context.getParams().getData());
    content += data;
    tree.bytesWritten += data.size();
    keep();
    return kj::READY_NOW;
  }
  kj::Promise<void> skip(SkipContext context) override {
    content.append(context.getParams().getCount(), '\0');
    tree.bytesSkipped += context.getParams().getCount();
    keep();
    return kj::READY_NOW;
  }
  kj::Promise<void> end(EndContext context) override {
    context.initResults();
    return kj::READY_NOW;
  }
  kj::Promise<void> commit(CommitContext context) override {
    Result<Entry> result = Error{};
    KJ_IF_MAYBE (error, enter(tree, "commit", path)) {
      result = *error;
    }
    else {
      result = store(tree, path, content, options, *rpc::read(context.getParams().getCheck()));
      bool lost = !result.ok() && result.error().code == ErrorCode::CORRUPT;
      if (!key.empty() && (result.ok() || lost)) tree.staged.erase(key);
    }
    if (tree.after) tree.after("commit");
    reply(context, result);
    return kj::READY_NOW;
  }
  kj::Promise<void> discard(DiscardContext context) override {
    ++tree.calls["discard"];
    tree.staged.erase(key);
    context.initResults();
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
  std::string path;
  std::string key;
  std::string content;
  capnp::MallocMessageBuilder message;
  schema::UploadOptions::Reader options;

  void keep() {
    if (!key.empty()) tree.staged[key] = content;
  }
};

class FakeFileStore final : public schema::FileStore::Server {
 public:
  explicit FakeFileStore(FakeTree& tree) : tree(tree) {}

  kj::Promise<void> stat(StatContext context) override {
    std::string path(rpc::asView(context.getParams().getPath()));
    reply(context, look("stat", path));
    return kj::READY_NOW;
  }

  kj::Promise<void> list(ListContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    Result<Entry> folder = look("list", path);
    if (!folder.ok()) {
      rpc::setError(context.getResults().initOutcome(), folder.error());
      return kj::READY_NOW;
    }
    std::vector<Entry> all;
    for (auto& [name, node] : tree.nodes) {
      bool below = isWithin(name, path) && name != path;
      if (below && (params.getRecursive() || parentOf(name) == path)) all.push_back(tree.entryOf(name));
    }
    std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) { return comparePaths(a.path, b.path) < 0; });
    all.insert(all.end(), tree.extraListing.begin(), tree.extraListing.end());
    std::string cursor(rpc::asView(params.getCursor()));
    if (tree.endlessListing) cursor.clear();
    size_t from = cursor.empty() ? 0 : std::stoul(cursor);
    size_t to = std::min<size_t>(all.size(), from + tree.pageSize);
    auto results = context.getResults();
    auto entries = results.initEntries(to - from);
    for (size_t i = from; i < to; ++i) rpc::write(entries[i - from], all[i]);
    // In each page, as they are found again by those that go on behind them.
    auto unread = results.initUnread(params.getRecursive() ? tree.unread.size() : 0);
    for (size_t i = 0; i < unread.size(); ++i) rpc::writeError(unread[i], tree.unread[i]);
    std::string next = std::to_string(to);
    results.setCursor(rpc::asData(next));
    results.setAtEnd(to == all.size() && !tree.endlessListing);
    if (tree.endlessListing) results.setCursor(rpc::asData("again"));
    return kj::READY_NOW;
  }

  kj::Promise<void> open(OpenContext context) override {
    std::string path(rpc::asView(context.getParams().getPath()));
    Result<Entry> entry = look("open", path);
    if (entry.ok() && entry->type == EntryType::DIRECTORY) {
      entry = errorAt(ErrorCode::IS_DIRECTORY, path, "", " is a folder");
    }
    auto results = context.getResults();
    if (entry.ok()) {
      results.setFile(kj::heap<FakeFile>(tree, path));
    } else {
      rpc::setError(results.initOutcome(), entry.error());
      results.setFile(rpc::failed<schema::File>(entry.error()));
    }
    return kj::READY_NOW;
  }

  kj::Promise<void> create(CreateContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    auto error = enter(tree, "create", path);
    if (error == nullptr) error = check(tree, path, rpc::read(params.getOptions().getExpectation()));
    auto results = context.getResults();
    KJ_IF_MAYBE (e, error) {
      rpc::setError(results.initOutcome(), *e);
      results.setUpload(rpc::failed<schema::Upload>(*e));
      return kj::READY_NOW;
    }
    std::string key(rpc::asView(params.getOptions().getResumeKey()));
    results.setOffset(key.empty() ? 0 : tree.staged[key].size());
    results.setUpload(kj::heap<FakeUpload>(tree, path, params.getOptions()));
    return kj::READY_NOW;
  }

  kj::Promise<void> put(PutContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    KJ_IF_MAYBE (error, enter(tree, "put", path)) {
      reply(context, *error);
      return kj::READY_NOW;
    }
    std::string content(rpc::asView(params.getContent()));
    tree.bytesWritten += content.size();
    reply(context, store(tree, path, std::move(content), params.getOptions(), *rpc::read(params.getCheck())));
    if (tree.after) tree.after("put");
    return kj::READY_NOW;
  }

  kj::Promise<void> makeDirectory(MakeDirectoryContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    KJ_IF_MAYBE (error, enter(tree, "makeDirectory", path)) {
      reply(context, *error);
      return kj::READY_NOW;
    }
    if (tree.has(path)) {
      bool isFolder = tree.nodes[path].type == EntryType::DIRECTORY;
      if (!params.getParents() || !isFolder) {
        reply(context, errorAt(isFolder ? ErrorCode::EXISTS : ErrorCode::NOT_DIRECTORY, path, "", " is there"));
        return kj::READY_NOW;
      }
    } else {
      makeParents(tree, path);
      tree.folder(path);
    }
    reply(context, tree.entryOf(path));
    if (tree.after) tree.after("makeDirectory");
    return kj::READY_NOW;
  }

  kj::Promise<void> symlink(SymlinkContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    ++tree.calls["symlink"];
    makeParents(tree, path);
    FakeNode& node = tree.symlink(path, std::string(rpc::asView(params.getTarget())));
    Attributes attributes = *rpc::read(params.getAttributes());
    if (attributes.mtime) node.mtime = *attributes.mtime;
    reply(context, tree.entryOf(path));
    return kj::READY_NOW;
  }

  kj::Promise<void> setMetadata(SetMetadataContext context) override {
    auto params = context.getParams();
    std::string path(rpc::asView(params.getPath()));
    Result<Entry> entry = look("setMetadata", path);
    if (entry.ok() && !path.empty()) {
      Attributes attributes = *rpc::read(params.getAttributes());
      if (attributes.mode) tree.nodes[path].mode = *attributes.mode;
      if (attributes.mtime) tree.nodes[path].mtime = *attributes.mtime;
      tree.touch(tree.nodes[path]);
      entry = tree.entryOf(path);
    }
    reply(context, entry);
    return kj::READY_NOW;
  }

  kj::Promise<void> remove(RemoveContext context) override {
    std::string path(rpc::asView(context.getParams().getPath()));
    Result<Entry> entry = look("remove", path);
    if (entry.ok()) tree.nodes.erase(path);
    if (tree.after) tree.after("remove");
    reply(context, entry);
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;

  Result<Entry> look(const char* method, const std::string& path) {
    KJ_IF_MAYBE (error, enter(tree, method, path)) {
      return *error;
    }
    if (!tree.has(path)) return notFound(path);
    return tree.entryOf(path);
  }
};

class FakeSession final : public schema::Session::Server {
 public:
  explicit FakeSession(FakeTree& tree) : tree(tree) {}
  kj::Promise<void> fileStore(FileStoreContext context) override {
    context.getResults().setFileStore(tree.fileStore ? tree.fileStore() : kj::heap<FakeFileStore>(tree));
    return kj::READY_NOW;
  }
  kj::Promise<void> grants(GrantsContext context) override {
    context.getResults().setGrants(tree.grants());
    return kj::READY_NOW;
  }
  kj::Promise<void> compute(ComputeContext context) override {
    context.getResults().setCompute(newFakeCompute(tree));
    return kj::READY_NOW;
  }
  kj::Promise<void> status(StatusContext context) override {
    context.getResults().initStatus().setConnections(7);
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
};

class FakeGateway final : public schema::Gateway::Server {
 public:
  explicit FakeGateway(FakeTree& tree) : tree(tree) {}
  kj::Promise<void> hello(HelloContext context) override {
    auto info = context.getResults().initInfo();
    info.setName("capstan");
    info.setProtocolVersion(tree.newestVersion);
    info.setOldestProtocolVersion(tree.oldestVersion);
    info.setProcessId(4711);
    auto limits = info.initLimits();
    limits.setPut(256 << 10);
    limits.setWriteChunk(64 << 10);
    return kj::READY_NOW;
  }
  kj::Promise<void> login(LoginContext context) override {
    auto params = context.getParams();
    ++tree.calls["login"];
    kj::Maybe<Error> error;
    if (params.getProtocolVersion() < tree.oldestVersion) {
      error = Error{ErrorCode::PROTOCOL_VERSION, "no version in common", {}};
    } else if (rpc::asView(params.getToken()) != tree.token) {
      error = Error{ErrorCode::DENIED, "the token is wrong", {}};
    }
    KJ_IF_MAYBE (e, tree.loginError) {
      error = *e;
    }
    auto results = context.getResults();
    KJ_IF_MAYBE (e, error) {
      rpc::setError(results.initOutcome(), *e);
      results.setSession(rpc::failed<schema::Session>(*e));
    }
    else {
      results.setSession(kj::heap<FakeSession>(tree));
    }
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
};

}  // namespace

schema::Gateway::Client newFakeGateway(FakeTree& tree) { return kj::heap<FakeGateway>(tree); }

FakeNode& FakeTree::put(const std::string& path, std::string content) {
  FakeNode& node = nodes[path];
  node.type = EntryType::FILE;
  node.content = std::move(content);
  node.holes.clear();
  touch(node);
  return node;
}

FakeNode& FakeTree::folder(const std::string& path) {
  FakeNode& node = nodes[path];
  node.type = EntryType::DIRECTORY;
  node.mode = 0750;
  touch(node);
  return node;
}

FakeNode& FakeTree::symlink(const std::string& path, std::string target) {
  FakeNode& node = nodes[path];
  node.type = EntryType::SYMLINK;
  node.target = std::move(target);
  touch(node);
  return node;
}

Entry FakeTree::entryOf(const std::string& path) const {
  Entry entry;
  entry.path = path;
  if (path.empty()) {
    entry.type = EntryType::DIRECTORY;
    entry.mode = 0755;
    return entry;
  }
  const FakeNode& node = nodes.at(path);
  entry.type = node.type;
  entry.size = node.type == EntryType::FILE ? node.content.size() : node.target.size();
  entry.mtime = node.mtime;
  entry.mode = node.mode;
  entry.version = node.version;
  entry.target = node.target;
  return entry;
}

}  // namespace capstan::client
