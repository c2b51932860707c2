#include <capstan/sync/scan.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include <kj/common.h>

#include <capstan/storage/version.h>
#include <capstan/sync/local-folder.h>
#include <capstan/sync/scan-merge.h>

namespace capstan::sync {

namespace {

constexpr size_t BATCH_ENTRIES = 256;
constexpr size_t MOST_BATCHES = 32;  // on their way

// What was seen, in few allocations.
struct Batch {
  struct Item {
    uint32_t begin, size;  // of the path in `paths`
    Seen seen;
  };
  std::string paths;
  std::vector<Item> items;

  void add(std::string_view path, const Seen& seen) {
    items.push_back({uint32_t(paths.size()), uint32_t(path.size()), seen});
    paths += path;
  }
  void clear() {
    paths.clear();
    items.clear();
  }
};

// From the walking thread to the comparing one. Batches go round.
class Pipe {
 public:
  void put(std::unique_ptr<Batch>& batch) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&]() { return full.size() < MOST_BATCHES || closed; });
    full.push_back(std::move(batch));
    if (spare.empty()) {
      batch = std::make_unique<Batch>();
    } else {
      batch = std::move(spare.back());
      spare.pop_back();
    }
    changed.notify_all();
  }

  // Gives back the last one. All that is there; empty at the end.
  std::vector<std::unique_ptr<Batch>> take(std::vector<std::unique_ptr<Batch>> used) {
    std::unique_lock lock(mutex);
    for (auto& batch : used) {
      batch->clear();
      spare.push_back(std::move(batch));
    }
    changed.wait(lock, [&]() { return !full.empty() || closed; });
    std::vector<std::unique_ptr<Batch>> taken;
    taken.swap(full);
    changed.notify_all();
    return taken;
  }

  void close() {
    std::lock_guard lock(mutex);
    closed = true;
    changed.notify_all();
  }

 private:
  std::mutex mutex;
  std::condition_variable changed;
  // protected by mutex
  std::vector<std::unique_ptr<Batch>> full, spare;
  bool closed = false;
};

void walkInto(Pipe& pipe, const WalkOptions& options) {
  auto batch = std::make_unique<Batch>();
  TreeWalk walk(options, [&](std::string_view path, const Seen& seen) {
    batch->add(path, seen);
    if (batch->items.size() >= BATCH_ENTRIES) pipe.put(batch);
  });
  walk.below("");
  pipe.put(batch);
  pipe.close();
}

Result<std::unique_ptr<AgreedReader>> agreedBelow(const ScanOptions& options, std::string_view path) {
  return options.state->read(path);
}

Status lookBelow(const ScanOptions& options, Scanned& result, const std::string& path) {
  auto reader = agreedBelow(options, path);
  if (!reader.ok()) return reader.error();
  Merge merge(options, result, std::move(*reader));
  TreeWalk walk(options.walk, [&merge](std::string_view at, const Seen& seen) { merge.seen(at, seen); });
  walk.below(path);
  return merge.finish();
}

// Everything that was agreed at the path and below it.
Status allGone(const ScanOptions& options, Scanned& result, const Report& report) {
  Merge self(options, result, nullptr);
  if (report.agreed) self.gone(report.change.path, *report.agreed);
  if (report.agreed && report.agreed->local.type != EntryType::DIRECTORY) return okStatus();
  auto reader = agreedBelow(options, report.change.path);
  if (!reader.ok()) return reader.error();
  return Merge(options, result, std::move(*reader)).finish();
}

Status lookAtReported(const ScanOptions& options, Scanned& result, const Report& report) {
  const std::string& path = report.change.path;
  if (path.empty()) return report.change.subtree ? lookBelow(options, result, path) : okStatus();
  Seen seen;
  Merge self(options, result, nullptr);
  seen.error = statBelow(options.walk.root, path, seen.status);
  if (saysAbsent(seen.error)) return allGone(options, result, report);
  if (seen.error == EACCES) {
    // The folder that it is in may not be looked into.
    seen.kind = Seen::Kind::UNREADABLE;
    self.seen(parentOf(path), seen);
    return okStatus();
  }
  seen.settled = seen.error == 0 && storage::isSettled(seen.status);
  bool isFolder = seen.error == 0 && S_ISDIR(seen.status.st_mode);
  if (seen.error != 0) {
    seen.kind = Seen::Kind::UNREADABLE;
  } else if ((!isFolder && !S_ISREG(seen.status.st_mode) && !S_ISLNK(seen.status.st_mode)) ||
             path.size() > MAX_PATH_BYTES) {
    seen.kind = Seen::Kind::SPECIAL;
  }
  if (options.walk.ignore != nullptr && options.walk.ignore->isIgnored(path, isFolder)) return okStatus();
  if (seen.kind != Seen::Kind::ENTRY) {
    self.seen(path, seen);
    return okStatus();
  }
  self.compare(path, seen, report.agreed ? &*report.agreed : nullptr);
  bool wasFolder = report.agreed && report.agreed->local.type == EntryType::DIRECTORY;
  if (!isFolder) {
    // What was in the folder that was here.
    if (!wasFolder) return okStatus();
    auto reader = agreedBelow(options, path);
    if (!reader.ok()) return reader.error();
    return Merge(options, result, std::move(*reader)).finish();
  }
  bool isSame = wasFolder && report.agreed->local.identity == storage::inodeIdentity(seen.status);
  if (isSame && !report.change.subtree) return okStatus();
  return lookBelow(options, result, path);
}

}  // namespace

Result<Scanned> scanAll(const ScanOptions& options) {
  Scanned result;
  result.look.whole = true;
  auto reader = agreedBelow(options, {});
  if (!reader.ok()) return reader.error();
  Pipe pipe;
  std::thread walker([&]() { walkInto(pipe, options.walk); });
  KJ_DEFER({
    pipe.close();
    walker.join();
  });
  Merge merge(options, result, std::move(*reader));
  std::vector<std::unique_ptr<Batch>> batches;
  while (true) {
    batches = pipe.take(std::move(batches));
    if (batches.empty()) break;
    for (const auto& batch : batches) {
      for (const auto& item : batch->items) {
        merge.seen(std::string_view(batch->paths).substr(item.begin, item.size), item.seen);
      }
    }
  }
  if (options.walk.cancelled != nullptr && options.walk.cancelled->load()) {
    return Error{ErrorCode::CANCELLED, "the look at the local folder was cancelled", {}};
  }
  Status finished = merge.finish();
  if (!finished.ok()) return finished.error();
  return result;
}

Result<Scanned> scanReported(const ScanOptions& options, const std::vector<Report>& reports) {
  Scanned result;
  const std::string* covered = nullptr;  // by a report of a whole subtree
  for (const Report& report : reports) {
    if (options.walk.cancelled != nullptr && options.walk.cancelled->load()) {
      return Error{ErrorCode::CANCELLED, "the look at the local folder was cancelled", {}};
    }
    if (covered != nullptr && isWithin(report.change.path, *covered)) continue;
    Status looked = lookAtReported(options, result, report);
    if (!looked.ok()) return looked.error();
    if (report.change.subtree) covered = &report.change.path;
  }
  return result;
}

}  // namespace capstan::sync
