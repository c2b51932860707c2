#include <capstan/sync/local-replica.h>

#include <algorithm>
#include <atomic>

#include <kj/debug.h>
#include <kj/vector.h>

#include <capstan/storage/tree.h>
#include <capstan/storage/version.h>
#include <capstan/sync/local-apply.h>
#include <capstan/sync/local-content.h>
#include <capstan/sync/local-folder.h>
#include <capstan/sync/local-look.h>

namespace capstan::sync {

namespace {

// Jobs that hash many files: so many at most, so that the pool's queue has room for others.
constexpr size_t MOST_DIGEST_JOBS = 64;
constexpr size_t DIGESTS_PER_JOB = 16;  // at least

using Tree = std::shared_ptr<storage::Tree>;
using Digests = std::vector<Result<std::string>>;

// The tree that is open, unless the folder is another one by now. Blocks.
Result<Tree> openTree(Tree open, const std::string& folder) {
  struct stat now, then;
  if (open && stat(folder.c_str(), &now) == 0 && fstat(open->root->fd(), &then) == 0 &&
      storage::idOf(now) == storage::idOf(then)) {
    return open;
  }
  open = nullptr;
  auto opened = storage::Tree::open({folder, storage::TreeOptions().resumeTime, {}});
  if (!opened.ok()) return opened.error();
  return Tree(std::move(*opened));
}

class LocalReplica final : public Replica {
 public:
  LocalReplica(BlockingPool& pool, LocalOptions options) : pool(pool), options(options), looker(pool, options) {}

  kj::Promise<Result<Look>> look(const State& state, const IgnoreRules& ignore, LookOptions how) override {
    return looker.look(state, ignore, std::move(how));
  }

  kj::Promise<Result<std::optional<Node>>> stat(std::string path) override {
    auto job = [folder = options.folder, path = std::move(path),
                looked = looker.root()]() -> Result<std::optional<Node>> {
      auto root = openLocalFolder(folder);
      struct stat status;
      bool isSame = looked.empty() || (root.ok() && fstat(*root, &status) == 0 && rootIdOf(status) == looked);
      // A folder that is not mounted any more says nothing about what is in it.
      if (!isSame) return errorAt(ErrorCode::IO, folder, "", " is not the folder any more that was looked at");
      if (!root.ok()) return root.error();
      return nodeBelow(*root, path);
    };
    return pool.run(std::move(job));
  }

  kj::Promise<Digests> digests(std::vector<std::string> paths) override {
    size_t perJob = std::max(DIGESTS_PER_JOB, (paths.size() + MOST_DIGEST_JOBS - 1) / MOST_DIGEST_JOBS);
    auto all = std::make_shared<std::vector<std::string>>(std::move(paths));
    auto cancelled = std::make_shared<std::atomic<bool>>(false);
    kj::Vector<kj::Promise<Result<Digests>>> jobs;
    for (size_t begin = 0; begin < all->size(); begin += perJob) {
      size_t end = std::min(all->size(), begin + perJob);
      jobs.add(pool.run([folder = options.folder, all, begin, end, cancelled]() -> Result<Digests> {
        Digests digests;
        for (size_t i = begin; i < end; ++i) digests.push_back(digestOfLocalFile(folder, (*all)[i], *cancelled));
        return digests;
      }));
    }
    return kj::joinPromises(jobs.releaseAsArray())
        .then([all, perJob](kj::Array<Result<Digests>> parts) {
          Digests result;
          for (size_t part = 0; part < parts.size(); ++part) {
            size_t count = std::min(perJob, all->size() - part * perJob);
            if (!parts[part].ok()) parts[part] = Digests(count, parts[part].error());
            for (auto& digest : *parts[part]) result.push_back(std::move(digest));
          }
          return result;
        })
        .attach(kj::defer([cancelled]() { cancelled->store(true); }));
  }

  kj::Promise<Result<Fetched>> fetch(std::string path, Node expected) override {
    return pool.run([folder = options.folder, path = std::move(path), expected = std::move(expected)]() {
      return fetchLocalFile(folder, path, expected);
    });
  }

  kj::Promise<Result<kj::Own<Content>>> open(std::string path, Node expected) override {
    auto job = [folder = options.folder, path = std::move(path), expected = std::move(expected)]() {
      return openLocalFile(folder, path, expected);
    };
    return pool.run(std::move(job)).then([this](Result<std::shared_ptr<LocalFile>> file) -> Result<kj::Own<Content>> {
      if (!file.ok()) return file.error();
      return newLocalContent(pool, std::move(*file));
    });
  }

  kj::Promise<std::vector<Result<Done>>> apply(std::vector<Operation> operations, Replica& from,
                                               const ApplyOptions& how) override {
    using Answer = kj::Promise<std::vector<Result<Done>>>;
    KJ_REQUIRE(options.mayChange, "this folder is only read");
    auto job = [open = tree, folder = options.folder]() { return openTree(open, folder); };
    return pool.run(std::move(job))
        .then([this, operations = std::move(operations), &from, how](Result<Tree> opened) mutable -> Answer {
          if (!opened.ok()) return std::vector<Result<Done>>(operations.size(), opened.error());
          tree = std::move(*opened);
          return applyLocally(pool, tree, options.folder, operations, from, std::move(how))
              .then([this, operations](std::vector<Result<Done>> results) {
                lookAgainAt(operations, results);
                return results;
              });
        });
  }

  kj::Promise<void> onChange() override { return looker.onChange(); }
  std::string watching() const override { return looker.watching(); }

 private:
  // No watcher tells of a change that an unsettled stamp hides.
  void lookAgainAt(const std::vector<Operation>& operations, const std::vector<Result<Done>>& results) {
    for (size_t i = 0; i < results.size(); ++i) {
      bool isSettled = results[i].ok() && (!results[i]->node || results[i]->node->settled);
      if (!isSettled) looker.lookAgain(operations[i].path);
    }
  }

  BlockingPool& pool;
  const LocalOptions options;
  Tree tree;  // opened when something is changed for the first time
  LocalLooker looker;
};

}  // namespace

kj::Own<Replica> newLocalReplica(BlockingPool& pool, LocalOptions options) {
  return kj::heap<LocalReplica>(pool, std::move(options));
}

}  // namespace capstan::sync
