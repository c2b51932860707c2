#include <capstan/sync/remote-apply.h>

#include <algorithm>

#include <capstan/sync/remote-upload.h>

namespace capstan::sync {

namespace {

using Kind = Operation::Kind;

constexpr unsigned UPLOADS_AT_ONCE = 4;
constexpr size_t OPERATIONS_IN_STRETCH = 16384;

bool isLarge(const Operation& operation) {
  return operation.kind == Kind::PUT && operation.node.size > SMALL_FILE_BYTES;
}

bool needsStamp(const std::optional<Node>& node) {
  return node && node->type != EntryType::DIRECTORY && !node->stamp.empty();
}

// Whether one of the paths is at, above or below this one.
bool isRelated(const std::set<std::string>& paths, std::string_view path) {
  if (paths.empty()) return false;
  for (std::string_view above = path; !above.empty(); above = parentOf(above)) {
    if (paths.count(std::string(above)) != 0) return true;
  }
  std::string below = std::string(path) + "/";
  auto found = paths.lower_bound(below);
  return found != paths.end() && found->compare(0, below.size(), below) == 0;
}

}  // namespace

RemoteApply::RemoteApply(const RemotePlace& place, std::vector<Operation> operations, Replica& from,
                         const Replica::ApplyOptions& options, RemoteStamps& stamps, bool makeRoot,
                         std::function<void(const Operation&, const Replica::Done&)> onDone)
    : place(place),
      operations(std::move(operations)),
      from(from),
      options(options),
      stamps(stamps),
      makeRoot(makeRoot),
      onDone(std::move(onDone)),
      outcomes(this->operations.size(), Result<Replica::Done>(Replica::Done{})) {}

kj::Promise<Outcomes> RemoteApply::run() {
  // `this` is held by whoever holds the promise, here and below.
  kj::Promise<void> asked = makeRoot ? askForRootMode() : kj::Promise<void>(kj::READY_NOW);
  return asked.then([this]() { return nextStretch(); }).then([this]() { return std::move(outcomes); });
}

// What is private here is not to be open to others there.
kj::Promise<void> RemoteApply::askForRootMode() {
  return from.stat("").then([this](Result<std::optional<Node>>&& root) {
    if (root.ok() && *root && (*root)->type == EntryType::DIRECTORY) rootMode = (*root)->mode;
  });
}

// Whether the operation can be sent before what comes earlier in the stretch has been answered.
bool RemoteApply::fits(const Operation& operation) const {
  if (batched.size() >= OPERATIONS_IN_STRETCH) return false;
  if (needsStamp(operation.expected) && touched.count(operation.expected->stamp) != 0) return false;
  if (needsStamp(operation.sourceNode) && touched.count(operation.sourceNode->stamp) != 0) return false;
  // Uploads are carried out after the batch.
  if (isRelated(uploadPaths, operation.path)) return false;
  bool hasSourceHere = operation.kind == Kind::MOVE || operation.kind == Kind::COPY;
  return !hasSourceHere || !isRelated(uploadPaths, operation.source);
}

void RemoteApply::enter(size_t index, RemoteBatch& batch) {
  Operation& operation = operations[index];
  if (isLarge(operation)) {
    if (operation.expected && operation.expected->type == EntryType::DIRECTORY) {
      Operation removal;
      removal.kind = Kind::REMOVE;
      removal.path = operation.path;
      removal.expected = std::exchange(operation.expected, std::nullopt);
      removals.push_back(std::move(removal));
      removalOutcomes.push_back(Replica::Done{});
      batch.add(removals.back(), removalOutcomes.back());
    }
    uploads.push_back(index);
    uploadPaths.insert(operation.path);
    return;
  }
  batched.push_back(index);
  batch.add(operation, outcomes[index]);
  if (needsStamp(operation.expected)) touched.insert(operation.expected->stamp);
  if (operation.kind == Kind::MOVE && needsStamp(operation.sourceNode)) touched.insert(operation.sourceNode->stamp);
}

kj::Promise<void> RemoteApply::nextStretch() {
  if (next >= operations.size()) return kj::READY_NOW;
  batched.clear();
  uploads.clear();
  uploadPaths.clear();
  touched.clear();
  nextUpload = 0;
  auto batch = kj::heap<RemoteBatch>(place, from, options, stamps);
  if (std::exchange(makeRoot, false)) batch->makeRoot(rootMode);
  for (; next < operations.size() && fits(operations[next]); ++next) {
    if (operations[next].kind == Kind::AGREE || operations[next].kind == Kind::FORGET) {
      outcomes[next] = Replica::Done{operations[next].expected, {}, {}};
    } else {
      enter(next, *batch);
    }
  }
  kj::Promise<void> ran = batch->isNeeded() ? batch->run() : kj::Promise<void>(kj::READY_NOW);
  return ran.attach(kj::mv(batch))
      .then([this]() {
        for (size_t index : batched) settle(index);
        return fallBack();
      })
      .then([this]() {
        auto workers = kj::heapArrayBuilder<kj::Promise<void>>(UPLOADS_AT_ONCE);
        for (unsigned i = 0; i < UPLOADS_AT_ONCE; ++i) workers.add(upload());
        return kj::joinPromises(workers.finish());
      })
      .then([this]() { return nextStretch(); });
}

kj::Promise<void> RemoteApply::upload() {
  if (nextUpload >= uploads.size()) return kj::READY_NOW;
  size_t index = uploads[nextUpload++];
  return uploadRemote(place, operations[index], from, options, stamps)
      .then([this, index](Result<Replica::Done>&& done) {
        outcomes[index] = std::move(done);
        settle(index);
        return upload();
      });
}

// Copies for which the source was not there any more are sent after all.
kj::Promise<void> RemoteApply::fallBack() {
  auto batch = kj::heap<RemoteBatch>(place, from, options, stamps);
  std::vector<size_t> again;
  for (size_t index : batched) {
    Operation& operation = operations[index];
    if (operation.kind != Kind::COPY || outcomes[index].ok()) continue;
    ErrorCode code = outcomes[index].error().code;
    if (code != ErrorCode::NOT_FOUND && code != ErrorCode::CONFLICT && code != ErrorCode::UNSUPPORTED) continue;
    operation.kind = Kind::PUT;
    operation.source = operation.path;
    operation.sourceNode = std::nullopt;
    if (isLarge(operation)) {
      uploads.push_back(index);
      continue;
    }
    again.push_back(index);
    batch->add(operation, outcomes[index]);
  }
  if (again.empty()) return kj::READY_NOW;
  auto& reference = *batch;
  return reference.run().attach(kj::mv(batch)).then([this, again = std::move(again)]() {
    for (size_t index : again) settle(index);
  });
}

void RemoteApply::settle(size_t index) {
  if (!outcomes[index].ok()) return;
  const Operation& operation = operations[index];
  const Replica::Done& done = *outcomes[index];
  if (done.node) {
    if (needsStamp(operation.expected)) stamps.replaced(operation.expected->stamp, done.node->stamp);
    if (operation.kind == Kind::MOVE && needsStamp(operation.sourceNode))
      stamps.replaced(operation.sourceNode->stamp, done.node->stamp);
  }
  onDone(operation, done);
}

}  // namespace capstan::sync
