#include <capstan/sync/local-apply.h>

#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/path.h>
#include <capstan/sync/local-mutations.h>
#include <capstan/sync/local-put.h>

namespace capstan::sync {

namespace {

using Kind = Operation::Kind;

// Submitted together, with one flush. Their small contents are staged before.
constexpr size_t GROUP_OPERATIONS = 1024;
constexpr size_t SMALL_AT_ONCE = 64;
constexpr size_t LARGE_AT_ONCE = 2;
// An mtime further back than the clock of any file system ticks: whoever writes from now on changes it.
constexpr int64_t OLD_ENOUGH = 2'100'000'000;

class LocalApply {
 public:
  LocalApply(BlockingPool& pool, std::shared_ptr<storage::Tree> tree, std::string folder,
             std::vector<Operation> operations, Replica& from, Replica::ApplyOptions options)
      : pool(pool),
        tree(std::move(tree)),
        folder(std::move(folder)),
        operations(std::move(operations)),
        from(from),
        options(std::move(options)),
        results(this->operations.size(), Error{ErrorCode::CANCELLED, "it was not begun", {}}) {}

  kj::Promise<std::vector<Result<Replica::Done>>> run() {
    auto job = [tree = tree, run = options.run, label = options.label]() { return tree->trash->begin(run, label, ""); };
    return pool.run(std::move(job))
        .then([this](Result<std::shared_ptr<storage::Run>> begun) -> kj::Promise<void> {
          if (!begun.ok()) {
            // Nothing is displaced that could not be kept.
            for (auto& result : results) result = begun.error();
            return kj::READY_NOW;
          }
          trashRun = std::move(*begun);
          return nextGroup();
        })
        .then([this]() { return std::move(results); });
  }

 private:
  using Index = size_t;

  kj::Promise<void> nextGroup() {
    if (groupEnd == operations.size()) return kj::READY_NOW;
    groupBegin = groupEnd;
    groupEnd = endOfGroup();
    prepared.clear();
    prepared.resize(groupEnd - groupBegin);
    smallNext = largeNext = groupBegin;
    auto workers = kj::heapArrayBuilder<kj::Promise<void>>(SMALL_AT_ONCE + LARGE_AT_ONCE);
    for (size_t i = 0; i < SMALL_AT_ONCE; ++i) workers.add(prepareNext(smallNext, false));
    for (size_t i = 0; i < LARGE_AT_ONCE; ++i) workers.add(prepareNext(largeNext, true));
    return kj::joinPromises(workers.finish()).then([this]() { return submit(); }).then([this]() {
      return nextGroup();
    });
  }

  // A copy begins a group unless only copies are before it: its source has to be as the operations before have left it.
  Index endOfGroup() const {
    Index end = groupBegin;
    for (; end < operations.size() && end - groupBegin < GROUP_OPERATIONS; ++end) {
      bool follows = end == groupBegin || operations[end - 1].kind == Kind::COPY;
      if (operations[end].kind == Kind::COPY && !follows) break;
    }
    return end;
  }

  static bool isLarge(const Operation& operation) {
    return operation.kind == Kind::COPY || (operation.kind == Kind::PUT && operation.node.size > SMALL_FILE_BYTES);
  }

  // One of several that take what is next.
  kj::Promise<void> prepareNext(Index& next, bool large) {
    while (next < groupEnd && isLarge(operations[next]) != large) ++next;
    if (next == groupEnd) return kj::READY_NOW;
    Index mine = next++;
    return prepare(mine).then([this, mine, &next, large](Result<Prepared> result) {
      if (result.ok()) {
        prepared[mine - groupBegin] = std::move(*result);
      } else {
        results[mine] = result.error();
      }
      return prepareNext(next, large);
    });
  }

  kj::Promise<Result<Prepared>> prepare(Index index) {
    const Operation& operation = operations[index];
    if (operation.kind == Kind::COPY) return putCopy(context, operation);
    if (operation.kind == Kind::PUT) {
      return operation.node.size > SMALL_FILE_BYTES ? putLarge(context, operation) : putSmall(context, operation);
    }
    KJ_REQUIRE(operation.kind != Kind::AGREE && operation.kind != Kind::FORGET, "nothing to be done on a side");
    Prepared simple;
    simple.make = [&operation]() { return mutationOf(operation); };
    return Result<Prepared>(std::move(simple));
  }

  kj::Promise<void> submit() {
    std::vector<Index> indexes;
    for (Index i = groupBegin; i < groupEnd; ++i) {
      if (prepared[i - groupBegin]) indexes.push_back(i);
    }
    return submit(std::move(indexes)).then([this](std::vector<Index> denied) { return retry(std::move(denied)); });
  }

  // Answers those that were denied.
  kj::Promise<std::vector<Index>> submit(std::vector<Index> indexes) {
    if (indexes.empty()) return std::vector<Index>();
    std::vector<std::unique_ptr<storage::Mutation>> mutations;
    for (Index i : indexes) mutations.push_back(prepared[i - groupBegin]->make());
    auto answers = tree->committer->submitAll(tree->committer->takeTicket(this), std::move(mutations), trashRun);
    return answers.then([this, indexes = std::move(indexes)](std::vector<Result<Entry>> entries) {
      std::vector<Index> denied;
      for (size_t n = 0; n < indexes.size(); ++n) {
        Index i = indexes[n];
        if (!entries[n].ok() && entries[n].error().code == ErrorCode::DENIED) denied.push_back(i);
        results[i] = doneOf(i, std::move(entries[n]));
      }
      return denied;
    });
  }

  // Once more, with the folders made writable that their modes protect from their owner.
  kj::Promise<void> retry(std::vector<Index> denied) {
    if (denied.empty()) return kj::READY_NOW;
    std::vector<std::string> folders;
    for (Index i : denied) {
      folders.emplace_back(parentOf(operations[i].path));
      if (operations[i].kind == Kind::MOVE) folders.emplace_back(parentOf(operations[i].source));
    }
    std::sort(folders.begin(), folders.end());
    folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
    auto job = [tree = tree, folders = std::move(folders)]() -> Result<std::shared_ptr<WritableFolders>> {
      return std::make_shared<WritableFolders>(tree->root->fd(), folders);
    };
    return pool.run(std::move(job))
        .then([this, denied = std::move(denied)](
                  Result<std::shared_ptr<WritableFolders>> writable) mutable -> kj::Promise<void> {
          if (!writable.ok() || !(*writable)->any()) return kj::READY_NOW;
          return submit(std::move(denied)).ignoreResult().attach(std::move(*writable));
        });
  }

  Result<Replica::Done> doneOf(Index index, Result<Entry> entry) {
    const Operation& operation = operations[index];
    Prepared& ready = *prepared[index - groupBegin];
    if (!entry.ok()) return entry.error();
    Replica::Done done;
    if (operation.kind == Kind::REMOVE) return done;
    Node node;
    node.type = entry->type;
    node.size = entry->size;
    node.mtime = entry->mtime;
    node.mode = entry->mode;
    node.target = node.type == EntryType::SYMLINK ? targetOf(operation) : std::string();
    node.stamp = std::move(entry->version);
    node.identity = entry->identity;
    node.digest = digestAfter(operation, ready);
    node.settled = node.type != EntryType::FILE || isOld(node.mtime);
    done.node = std::move(node);
    done.source = std::move(ready.source);
    done.chunks = std::move(ready.chunks);
    return done;
  }

  static std::string targetOf(const Operation& operation) {
    if (operation.kind == Kind::MAKE_SYMLINK) return operation.node.target;
    const auto& before = operation.kind == Kind::MOVE ? operation.sourceNode : operation.expected;
    return before ? before->target : operation.node.target;
  }

  // Where no content was moved it is what it was.
  static std::string digestAfter(const Operation& operation, const Prepared& ready) {
    if (operation.kind == Kind::PUT || operation.kind == Kind::COPY) return ready.digest;
    const auto& before = operation.kind == Kind::MOVE ? operation.sourceNode : operation.expected;
    return before && before->type == EntryType::FILE && before->settled ? before->digest : std::string();
  }

  static bool isOld(int64_t mtime) {
    timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return mtime < int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec - OLD_ENOUGH;
  }

  BlockingPool& pool;
  const std::shared_ptr<storage::Tree> tree;
  const std::string folder;
  const std::vector<Operation> operations;
  Replica& from;
  const Replica::ApplyOptions options;
  const PutContext context{pool, *tree, folder, from, options};
  std::shared_ptr<storage::Run> trashRun;
  std::vector<Result<Replica::Done>> results;
  // The group that is under way.
  Index groupBegin = 0, groupEnd = 0;
  Index smallNext = 0, largeNext = 0;
  std::vector<std::optional<Prepared>> prepared;
};

}  // namespace

kj::Promise<std::vector<Result<Replica::Done>>> applyLocally(BlockingPool& pool, std::shared_ptr<storage::Tree> tree,
                                                             std::string folder, std::vector<Operation> operations,
                                                             Replica& from, Replica::ApplyOptions options) {
  auto apply =
      kj::heap<LocalApply>(pool, std::move(tree), std::move(folder), std::move(operations), from, std::move(options));
  auto promise = apply->run();
  return promise.attach(kj::mv(apply));
}

}  // namespace capstan::sync
