#include <capstan/sync/remote-batch.h>

#include <algorithm>

#include <kj/debug.h>

namespace capstan::sync {

namespace {

constexpr size_t FETCHES_AHEAD = 64;
constexpr uint64_t FETCHED_BYTES = 8 << 20;  // waiting to be sent, at most
constexpr size_t OPERATIONS_IN_MESSAGE = 64;
constexpr uint64_t BYTES_IN_MESSAGE = 256 << 10;

// After so much the server is told to carry out what it has, and the next batch is begun.
constexpr unsigned OPERATIONS_IN_BATCH = 2048;
constexpr uint64_t BYTES_IN_BATCH = 32 << 20;
constexpr size_t COMMITS_AT_ONCE = 4;  // a connection may hold 16 batches

constexpr size_t MAX_LABEL_BYTES = 200;

using Kind = Operation::Kind;

bool isFolder(const std::optional<Node>& node) { return node && node->type == EntryType::DIRECTORY; }

// What the server takes for a label; cut before a character, not within one.
std::string shortened(std::string label) {
  if (label.size() <= MAX_LABEL_BYTES) return label;
  size_t end = MAX_LABEL_BYTES;
  while (end > 0 && (static_cast<unsigned char>(label[end]) & 0xc0) == 0x80) --end;
  label.resize(end);
  return label;
}

// A folder gives way to something else only by being removed, and the other way round.
bool removesFirst(const Operation& operation) {
  if (!operation.expected) return false;
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: return !isFolder(operation.expected);
    case Kind::PUT:
    case Kind::MAKE_SYMLINK:
    case Kind::COPY: return isFolder(operation.expected);
    case Kind::MOVE: return isFolder(operation.expected) != isFolder(operation.sourceNode);
    default: return false;
  }
}

}  // namespace

Expectation expectationOf(const std::optional<Node>& expected, const RemoteStamps& stamps) {
  if (!expected) return {Expectation::Kind::ABSENT, {}};
  // A folder has another version whenever something in it comes or goes.
  if (expected->type == EntryType::DIRECTORY && expected->identity != 0)
    return {Expectation::Kind::IDENTITY, {}, expected->identity};
  if (expected->type == EntryType::DIRECTORY || expected->stamp.empty()) return {};
  return {Expectation::Kind::VERSION, stamps.current(expected->stamp)};
}

Attributes wireAttributesOf(const Node& node) {
  Attributes attributes;
  if (node.type != EntryType::SYMLINK) attributes.mode = node.mode;
  if (node.type != EntryType::DIRECTORY) attributes.mtime = node.mtime;
  return attributes;
}

Error unanswered(const Operation& operation, const Error& cause) {
  if (cause.code == ErrorCode::DENIED) return {cause.code, cause.message, operation.path};  // before anything was done
  return {cause.code, cause.message + "; whether " + std::string(nameOf(operation.kind)) + " took effect is not known",
          operation.path};
}

RemoteBatch::RemoteBatch(const RemotePlace& place, Replica& from, const Replica::ApplyOptions& options,
                         const RemoteStamps& stamps)
    : place(place), from(from), options(options), stamps(stamps) {}

void RemoteBatch::add(const Operation& operation, Result<Replica::Done>& result) {
  tasks.push_back({&operation, &result, nullptr, {}, false, false, 0});
}

kj::Promise<void> RemoteBatch::run() {
  fetchAhead();
  // `this` is held by whoever holds the promise, here and below.
  return place
      .with<Unit>([this](schema::FileStore::Client& connected) -> kj::Promise<Status> {
        store = connected;
        begin();
        return sendAll()
            .then([this]() {
              commit();
              auto all = kj::heapArrayBuilder<kj::Promise<void>>(commits.size());
              for (auto& promise : commits) all.add(kj::mv(promise));
              return kj::joinPromises(all.finish());
            })
            .then([]() -> Status { return okStatus(); });
      })
      .then([this](Status&& status) {
        if (!status.ok()) failAll(status.error(), false, 0, tasks.size());
      });
}

void RemoteBatch::begin() {
  auto request = KJ_ASSERT_NONNULL(store).beginRequest();
  request.initOptions().setRun(rpc::asData(options.run));
  request.getOptions().setLabel(shortened(options.label).c_str());
  // An error in the answer is told by every call on the batch too.
  filling = Filling{request.send().getBatch(), nextToSend, 0, 0, false};
}

void RemoteBatch::fetchAhead() {
  for (; nextToFetch < tasks.size() && fetchesUnderWay < FETCHES_AHEAD && fetchedBytes < FETCHED_BYTES; ++nextToFetch) {
    Task& task = tasks[nextToFetch];
    if (task.operation->kind != Kind::PUT) continue;
    ++fetchesUnderWay;
    fetchedBytes += task.operation->node.size;
    task.fetching = from.fetch(task.operation->source, task.operation->node).eagerlyEvaluate(nullptr);
  }
}

kj::Promise<void> RemoteBatch::sendAll() {
  if (nextToSend >= tasks.size()) return makesRoot ? send({}, 0) : kj::Promise<void>(kj::READY_NOW);
  return gather({}, 0).then([this]() {
    if (filling->steps < OPERATIONS_IN_BATCH && filling->bytes < BYTES_IN_BATCH) return sendAll();
    commit();
    kj::Promise<void> oldest = kj::READY_NOW;
    if (commits.size() >= COMMITS_AT_ONCE) {
      oldest = kj::mv(commits.front());
      commits.pop_front();
    }
    return oldest.then([this]() {
      begin();
      return sendAll();
    });
  });
}

// Takes tasks, in order, until they fill a message; waits for the contents.
kj::Promise<void> RemoteBatch::gather(std::vector<Task*> group, uint64_t bytes) {
  while (nextToSend < tasks.size() && group.size() < OPERATIONS_IN_MESSAGE && bytes < BYTES_IN_MESSAGE) {
    Task& task = tasks[nextToSend];
    fetchAhead();
    KJ_IF_MAYBE (fetching, task.fetching) {
      auto promise = kj::mv(*fetching);
      task.fetching = nullptr;
      return promise.then([this, &task, group = std::move(group),
                           bytes](Result<Replica::Fetched>&& fetched) mutable -> kj::Promise<void> {
        ++nextToSend;
        --fetchesUnderWay;
        if (fetched.ok()) {
          bytes += fetched->bytes.size();
          task.fetched = std::move(*fetched);
          group.push_back(&task);
        } else {
          fetchedBytes -= task.operation->node.size;
          *task.result = std::move(fetched).error();
        }
        return gather(std::move(group), bytes);
      });
    }
    ++nextToSend;
    group.push_back(&task);
  }
  if (group.empty()) return kj::READY_NOW;
  if (bytes == 0 || !options.pace) return send(std::move(group), bytes);
  return options.pace(bytes).then(
      [this, group = std::move(group), bytes]() mutable { return send(std::move(group), bytes); });
}

kj::Promise<void> RemoteBatch::send(std::vector<Task*> group, uint64_t bytes) {
  unsigned count = makesRoot ? 1 : 0;
  for (Task* task : group) {
    task->steps = removesFirst(*task->operation) ? 2 : 1;
    count += task->steps;
  }
  auto request = filling->batch.addRequest(capnp::MessageSize{(bytes + count * 256) / sizeof(capnp::word) + 256, 0});
  filling->hasRoot = filling->hasRoot || makesRoot;
  filling->steps += count;
  filling->bytes += bytes;
  fill(request.initOperations(count), group);
  return request.send().then([this, group = std::move(group)]() {
    for (Task* task : group) {
      if (!task->fetched) continue;
      fetchedBytes -= task->operation->node.size;
      if (options.onMoved) options.onMoved(*task->operation, task->fetched->bytes.size());
      std::string().swap(task->fetched->bytes);
    }
  });
}

void RemoteBatch::fill(capnp::List<schema::Operation>::Builder list, const std::vector<Task*>& group) {
  unsigned index = 0;
  if (makesRoot) {
    auto root = list[index++].initMakeDirectory();
    root.setPath(rpc::asData(place.folder));
    root.setParents(true);
    rpc::write(root.initAttributes(), {rootMode, std::nullopt});
    makesRoot = false;
  }
  for (Task* task : group) {
    index = fillTask(list, index, *task);
    task->isSent = true;
  }
}

unsigned RemoteBatch::fillTask(capnp::List<schema::Operation>::Builder list, unsigned index, Task& task) {
  const Operation& operation = *task.operation;
  std::string path = place.atServer(operation.path);
  std::string source = place.atServer(operation.source);
  Expectation expectation = expectationOf(operation.expected, stamps);
  if (task.steps == 2) {
    auto step = list[index++].initRemove();
    step.setPath(rpc::asData(path));
    rpc::write(step.initExpectation(), expectation);
    expectation = {Expectation::Kind::ABSENT, {}};
  }
  auto to = list[index++];
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: {
      auto step = to.initMakeDirectory();
      step.setPath(rpc::asData(path));
      rpc::write(step.initAttributes(), wireAttributesOf(operation.node));
      break;
    }
    case Kind::PUT: {
      auto step = to.initPut();
      const Replica::Fetched& fetched = *task.fetched;
      step.setPath(rpc::asData(path));
      step.setContent(rpc::asData(fetched.bytes));
      auto settings = step.initOptions();
      rpc::write(settings.initExpectation(), expectation);
      rpc::write(settings.initAttributes(), wireAttributesOf(fetched.node));
      rpc::write(step.initCheck(), {fetched.bytes.size(), DigestAlgorithm::XXH3, fetched.node.digest});
      break;
    }
    case Kind::MAKE_SYMLINK: {
      auto step = to.initSymlink();
      step.setPath(rpc::asData(path));
      step.setTarget(rpc::asData(operation.node.target));
      rpc::write(step.initExpectation(), expectation);
      rpc::write(step.initAttributes(), wireAttributesOf(operation.node));
      break;
    }
    case Kind::SET_METADATA: {
      auto step = to.initSetMetadata();
      step.setPath(rpc::asData(path));
      rpc::write(step.initAttributes(), wireAttributesOf(operation.node));
      rpc::write(step.initExpectation(), expectation);
      break;
    }
    case Kind::MOVE: {
      auto step = to.initRename();
      step.setFrom(rpc::asData(source));
      step.setTo(rpc::asData(path));
      rpc::write(step.initFromExpectation(), expectationOf(operation.sourceNode, stamps));
      rpc::write(step.initToExpectation(), expectation);
      break;
    }
    case Kind::COPY: {
      auto step = to.initCopy();
      step.setFrom(rpc::asData(source));
      step.setTo(rpc::asData(path));
      rpc::write(step.initFromExpectation(), expectationOf(operation.sourceNode, stamps));
      rpc::write(step.initToExpectation(), expectation);
      rpc::write(step.initAttributes(), wireAttributesOf(operation.node));
      break;
    }
    case Kind::REMOVE: {
      auto step = to.initRemove();
      step.setPath(rpc::asData(path));
      rpc::write(step.initExpectation(), expectation);
      break;
    }
    case Kind::AGREE:
    case Kind::FORGET: KJ_FAIL_REQUIRE("nothing is to be done at the server");
  }
  return index;
}

void RemoteBatch::commit() {
  if (filling->steps == 0) return;
  auto request = filling->batch.commitRequest();
  auto take = [this, begin = filling->begin, end = nextToSend,
               hasRoot = filling->hasRoot](capnp::Response<schema::Batch::CommitResults>&& response) {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      failAll(*error, true, begin, end);
      return;
    }
    takeResults(response.getResults(), begin, end, hasRoot);
  };
  commits.push_back(request.send().then(kj::mv(take)).eagerlyEvaluate(nullptr));
}

void RemoteBatch::takeResults(capnp::List<schema::OperationResult>::Reader results, size_t begin, size_t end,
                              bool hasRoot) {
  // Without the folder nothing else succeeds, and tells why.
  unsigned index = hasRoot && results.size() > 0 ? 1 : 0;
  for (size_t i = begin; i < end; ++i) {
    Task& task = tasks[i];
    if (!task.isSent) continue;
    task.isAnswered = true;
    if (index + task.steps > results.size()) {
      *task.result = Error{ErrorCode::IO, "the server answers fewer results than there were operations", {}};
      continue;
    }
    auto last = results[index + task.steps - 1];
    if (task.steps == 2) {
      KJ_IF_MAYBE (error, rpc::errorIn(results[index].getOutcome())) {
        index += task.steps;
        *task.result = kj::mv(*error);
        continue;
      }
    }
    takeResult(task, last);
    index += task.steps;
  }
}

void RemoteBatch::takeResult(Task& task, schema::OperationResult::Reader result) {
  const Operation& operation = *task.operation;
  KJ_IF_MAYBE (error, rpc::errorIn(result.getOutcome())) {
    *task.result = kj::mv(*error);
    return;
  }
  Replica::Done done;
  if (operation.kind == Kind::REMOVE) {
    *task.result = std::move(done);
    return;
  }
  Node node = nodeOf(rpc::read(result.getEntry()));
  if (node.type == EntryType::FILE) {
    if (task.fetched) {
      node.digest = task.fetched->node.digest;
    } else if (operation.sourceNode) {
      node.digest = operation.sourceNode->digest;
    } else if (operation.expected) {
      node.digest = operation.expected->digest;
    }
  }
  done.node = std::move(node);
  if (task.fetched) done.source = std::move(task.fetched->node);
  *task.result = std::move(done);
}

// `isKnown`: that nothing was changed.
void RemoteBatch::failAll(const Error& error, bool isKnown, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    Task& task = tasks[i];
    if (task.isAnswered) continue;
    if (i < nextToSend && !task.isSent && task.operation->kind == Kind::PUT && !task.fetched) continue;  // has its own
    *task.result = isKnown || !task.isSent ? error : unanswered(*task.operation, error);
  }
}

}  // namespace capstan::sync
