#include "fake-replica.h"

#include <capstan/base/digest.h>
#include <capstan/server/files/notices.h>

namespace capstan::sync::sim {

namespace {

using Kind = Operation::Kind;
using server::files::ChangeKind;
using server::files::Coalescing;

std::string digestOfContent(const std::string& content) { return digestOf(DigestAlgorithm::XXH3, content); }

class DiskLookup final : public server::files::Lookup {
 public:
  explicit DiskLookup(const FakeDisk& disk) : disk(disk) {}
  std::optional<Entry> entryAt(const std::string& path) override {
    auto item = disk.find(path);
    if (item == nullptr) return std::nullopt;
    Entry entry;
    entry.path = path;
    entry.type = item->node.type;
    return entry;
  }

 private:
  const FakeDisk& disk;
};

bool isSame(const Node& now, const Node& expected) {
  if (now.type != expected.type) return false;
  return now.type == EntryType::DIRECTORY || now.stamp == expected.stamp;
}

}  // namespace

struct FakeReplica::Looking {
  const State& state;
  const IgnoreRules& ignore;
  LookOptions options;
  Look look;
  size_t journalEnd = 0;
  std::set<std::string, TreeOrder> chosen;
  std::vector<std::string> paths;
  size_t half = 0;
};

Error FakeReplica::error(ErrorCode code, const std::string& path) const {
  return Error{code, disk.name + ": " + std::string(kebabCase(code)) + " " + path, path};
}

// Everything, or what the journal names, in two halves: users may change things between them.
kj::Promise<Result<Replica::Look>> FakeReplica::look(const State& state, const IgnoreRules& ignore,
                                                     LookOptions options) {
  auto looking = kj::heap<Looking>(Looking{state, ignore, options, {}, 0, {}, {}, 0});
  auto& at = *looking;
  return scheduler.pause()
      .then([this, &at]() {
        lookAtPart(at, true);
        return scheduler.pause();
      })
      .then([this, &at]() -> Result<Look> {
        lookAtPart(at, false);
        return endLook(at);
      })
      .attach(kj::mv(looking));
}

void FakeReplica::lookAtPart(Looking& looking, bool firstHalf) {
  auto& paths = looking.paths;
  if (firstHalf) {
    choosePaths(looking);
    paths.assign(looking.chosen.begin(), looking.chosen.end());
    looking.half = paths.empty() ? 0 : scheduler.random().below(paths.size() + 1);
  }
  for (size_t i = firstHalf ? 0 : looking.half; i < (firstHalf ? looking.half : paths.size()); ++i)
    lookAt(looking, paths[i]);
}

void FakeReplica::choosePaths(Looking& looking) {
  bool known = position && epoch == disk.epoch;
  size_t from = known ? *position : 0;
  if (side == Side::REMOTE && !known && !looking.options.cursor.empty()) {
    auto colon = looking.options.cursor.find(':');
    known = looking.options.cursor.substr(0, colon) == std::to_string(disk.epoch);
    if (known) from = std::stoull(looking.options.cursor.substr(colon + 1));
  }
  bool overflow = scheduler.faults() && scheduler.random().oneIn(30);
  looking.look.whole = looking.options.whole || !known || overflow || !disk.mounted;
  if (side == Side::REMOTE) disk.notice();
  looking.journalEnd = side == Side::REMOTE ? disk.noticed.size() : disk.journal.size();
  if (looking.look.whole)
    chooseBelow(looking, "");
  else if (side == Side::REMOTE)
    choosePathsTold(looking, from);
  else
    for (size_t i = from; i < disk.journal.size(); ++i) chooseBelow(looking, disk.journal[i]);
  for (auto& path : looking.options.again) chooseBelow(looking, path);
}

void FakeReplica::chooseBelow(Looking& looking, const std::string& path) {
  looking.chosen.insert(path);
  for (auto& [name, item] : disk.view())
    if (isWithin(name, path)) looking.chosen.insert(name);
  auto reader = looking.state.read(path);
  for (auto more = (*reader)->next(); more.ok() && *more; more = (*reader)->next())
    looking.chosen.insert((*reader)->path());
}

// What the server tells of what it has noticed: in pages, each as short as the server's own code makes it.
void FakeReplica::choosePathsTold(Looking& looking, size_t from) {
  DiskLookup lookup(disk);
  while (from < disk.noticed.size()) {
    size_t end = from + 1 + scheduler.random().below(disk.noticed.size() - from);
    Coalescing coalescing;
    for (; from < end; ++from) coalescing.add(disk.noticed[from]);
    for (auto& notice : fillIn(coalescing.take(), lookup)) {
      bool isItselfOnly = notice.change.kind == ChangeKind::CHANGED && notice.entry.type != EntryType::UNSET;
      if (isItselfOnly)
        looking.chosen.insert(notice.change.path);
      else
        chooseBelow(looking, notice.change.path);
    }
  }
}

void FakeReplica::lookAt(Looking& looking, const std::string& path) {
  if (path.empty()) return;
  auto now = disk.nodeAt(path);
  auto agreed = const_cast<State&>(looking.state).find(path);
  bool isFolder = now ? now->type == EntryType::DIRECTORY : agreed && agreed->on(side).type == EntryType::DIRECTORY;
  if (looking.ignore.isIgnored(path, isFolder)) return;
  if (disk.isUnreadable(path)) {
    looking.look.unread.emplace(disk.unreadable, error(ErrorCode::DENIED, disk.unreadable));
    return;
  }
  ++looking.look.entries;
  if (now && now->type == EntryType::FILE && looking.options.checkContent)
    now->digest = digestOfContent(disk.find(path)->content);
  if (agreed ? !now || !isAsAgreed(*now, agreed->on(side)) : now.has_value()) looking.look.changes[path] = now;
}

Result<Replica::Look> FakeReplica::endLook(Looking& looking) {
  auto& look = looking.look;
  if (lookError) {
    position.reset();
    return *lookError;
  }
  if (scheduler.faults() && scheduler.random().oneIn(25)) {
    position.reset();
    scheduler.note(disk.name + " cannot be looked at");
    return error(side == Side::REMOTE ? ErrorCode::UNREACHABLE : ErrorCode::IO, "");
  }
  look.rootExists = disk.mounted || disk.exists;
  if (!look.rootExists) {
    position.reset();
    look.changes.clear();
    if (side == Side::LOCAL) return error(ErrorCode::NOT_FOUND, "the folder");
  }
  // The first half was seen earlier than the second: what was found gone may have been moved to where it was not seen.
  look.root = disk.root();
  look.cursor = std::to_string(disk.epoch) + ":" + std::to_string(looking.journalEnd);
  position = looking.journalEnd;
  epoch = disk.epoch;
  inTrouble = !look.unread.empty();
  if (!disk.mounted) position.reset();
  std::string line = disk.name + " look" + (look.whole ? " at all:" : ":");
  for (auto& [path, node] : look.changes) line += (node ? " +" : " -") + path;
  scheduler.note(line);
  return std::move(look);
}

kj::Promise<Result<std::optional<Node>>> FakeReplica::stat(std::string path) {
  return scheduler.pause().then([this, path]() -> Result<std::optional<Node>> {
    if (scheduler.faults() && scheduler.random().oneIn(40)) return error(ErrorCode::IO, path);
    if (disk.isUnreadable(path)) return error(ErrorCode::DENIED, path);
    return disk.nodeAt(path);
  });
}

kj::Promise<std::vector<Result<std::string>>> FakeReplica::digests(std::vector<std::string> paths) {
  return scheduler.pause().then([this, paths]() {
    std::vector<Result<std::string>> digests;
    for (auto& path : paths) {
      auto item = disk.find(path);
      if (item == nullptr || item->node.type != EntryType::FILE)
        digests.push_back(error(ErrorCode::CHANGED, path));
      else if (scheduler.faults() && scheduler.random().oneIn(20))
        digests.push_back(error(ErrorCode::CHANGED, path));
      else
        digests.push_back(digestOfContent(item->content));
    }
    return digests;
  });
}

kj::Promise<Result<Replica::Fetched>> FakeReplica::fetch(std::string path, Node) {
  return Result<Fetched>(error(ErrorCode::UNSUPPORTED, path));
}

kj::Promise<Result<kj::Own<Content>>> FakeReplica::open(std::string path, Node) {
  return Result<kj::Own<Content>>(error(ErrorCode::UNSUPPORTED, path));
}

struct FakeReplica::Applying {
  std::vector<Operation> operations;
  FakeReplica& from;
  std::function<void(const Operation&, uint64_t)> onMoved;
  std::vector<Result<Done>> results;
  bool cut = false;
};

kj::Promise<std::vector<Result<Replica::Done>>> FakeReplica::apply(std::vector<Operation> operations, Replica& from,
                                                                   const ApplyOptions& options) {
  auto applying =
      kj::heap<Applying>(Applying{std::move(operations), kj::downcast<FakeReplica>(from), options.onMoved, {}, false});
  auto& at = *applying;
  otherInTrouble = at.from.inTrouble;
  return scheduler.pause()
      .then([this, &at]() { return applyNext(at); })
      .then([this]() { return scheduler.pause(); })
      .then([this, &at]() {
        if (beforeAnswer) beforeAnswer();
        // After a cut nobody hears what was done.
        if (at.cut)
          for (size_t i = 0; i < at.results.size(); ++i)
            at.results[i] = error(ErrorCode::UNREACHABLE, at.operations[i].path);
        return std::move(at.results);
      })
      .attach(kj::mv(applying));
}

kj::Promise<void> FakeReplica::applyNext(Applying& applying) {
  if (applying.results.size() == applying.operations.size()) return kj::READY_NOW;
  auto& operation = applying.operations[applying.results.size()];
  auto wrong = beforeOperation ? beforeOperation(operation) : std::nullopt;
  if (wrong) {
    applying.results.push_back(std::move(*wrong));
    return applyNext(applying);
  }
  auto& random = scheduler.random();
  if (side == Side::REMOTE && scheduler.faults() && random.oneIn(60) && !applying.cut) {
    scheduler.note("cut");
    applying.cut = true;
  }
  bool lost = applying.cut && random.oneIn(2);
  if (lost || (scheduler.faults() && random.oneIn(80))) {
    applying.results.push_back(error(lost ? ErrorCode::UNREACHABLE : ErrorCode::IO, operation.path));
    return applyNext(applying);
  }
  if (operation.kind == Kind::PUT)
    return put(applying, operation).then([this, &applying]() { return applyNext(applying); });
  applying.results.push_back(carryOut(operation));
  if (!random.oneIn(4)) return applyNext(applying);
  return scheduler.pause().then([this, &applying]() { return applyNext(applying); });
}

// Why an operation cannot be carried out on what is there now.
std::optional<Error> FakeReplica::whyNot(const Operation& operation) const {
  if (!disk.mounted) return error(ErrorCode::IO, operation.path);
  auto now = disk.nodeAt(operation.path);
  if (!operation.expected && now) return error(ErrorCode::EXISTS, operation.path);
  if (operation.expected && !now) return error(ErrorCode::NOT_FOUND, operation.path);
  if (now && !isSame(*now, *operation.expected)) return error(ErrorCode::CONFLICT, operation.path);
  auto parent = parentOf(operation.path);
  if (!parent.empty()) {
    auto folder = disk.nodeAt(parent);
    if (!folder) return error(ErrorCode::NOT_FOUND, operation.path);
    if (folder->type != EntryType::DIRECTORY) return error(ErrorCode::NOT_DIRECTORY, operation.path);
  }
  if (operation.kind == Kind::MOVE || operation.kind == Kind::COPY) {
    auto source = disk.nodeAt(operation.source);
    if (!source) return error(ErrorCode::NOT_FOUND, operation.source);
    if (!operation.sourceNode || !isSame(*source, *operation.sourceNode))
      return error(ErrorCode::CONFLICT, operation.source);
  }
  bool needsRoom =
      operation.kind != Kind::REMOVE && operation.kind != Kind::SET_METADATA && operation.kind != Kind::MOVE;
  if (disk.full && needsRoom) return error(ErrorCode::NO_SPACE, operation.path);
  return std::nullopt;
}

Result<Replica::Done> FakeReplica::carryOut(const Operation& operation) {
  auto line = disk.name + " " + std::string(nameOf(operation.kind)) + " " + operation.source + " " + operation.path;
  if (auto reason = whyNot(operation)) {
    scheduler.note(line + ": " + std::string(kebabCase(reason->code)));
    return *reason;
  }
  auto& path = operation.path;
  bool done = false;
  switch (operation.kind) {
    case Kind::MAKE_FOLDER: done = disk.makeFolder(path, operation.node.mode); break;
    case Kind::MAKE_SYMLINK: done = disk.makeSymlink(path, operation.node.target, true); break;
    case Kind::SET_METADATA: done = disk.setMetadata(path, operation.node.mode, operation.node.mtime); break;
    case Kind::MOVE: done = disk.move(operation.source, path, true); break;
    case Kind::COPY: {
      auto source = *disk.find(operation.source);
      auto& node = operation.node;
      done = disk.write(path, source.content, source.node.size, node.mtime, node.mode, true);
      break;
    }
    case Kind::REMOVE:
      if (!mayRemove ||
          (!mayNotRemove.empty() && otherInTrouble && isWithin(path, mayNotRemove) && path != mayNotRemove))
        scheduler.complain("removed on doubtful evidence: " + line);
      if (disk.hasChildren(path)) {
        scheduler.note(line + ": not empty");
        return error(ErrorCode::NOT_EMPTY, path);
      }
      done = disk.remove(path, true);
      break;
    default: scheduler.complain("an operation that is none was sent: " + line);
  }
  scheduler.note(line + (done ? "" : ": refused"));
  if (!done) return error(ErrorCode::NOT_EMPTY, path);
  ++changes;
  Done result;
  result.node = disk.nodeAt(path);
  return result;
}

// The content is read, then time passes, then it is put in place if both sides are still what they were.
kj::Promise<void> FakeReplica::put(Applying& applying, const Operation& operation) {
  auto& from = applying.from.disk;
  auto item = from.find(operation.source);
  auto node = from.nodeAt(operation.source);
  if (item == nullptr || !isSame(*node, operation.node)) {
    scheduler.note("source changed " + operation.source);
    applying.results.push_back(error(ErrorCode::CHANGED, operation.source));
    return kj::READY_NOW;
  }
  if (applying.onMoved) applying.onMoved(operation, node->size);
  auto wait = scheduler.random().oneIn(3) ? scheduler.pause() : kj::Promise<void>(kj::READY_NOW);
  return wait.then([this, &applying, &operation, &from, read = *item, node = *node]() {
    applying.results.push_back(finishPut(operation, from, read, node));
  });
}

Result<Replica::Done> FakeReplica::finishPut(const Operation& operation, FakeDisk& from, const Item& read,
                                             const Node& node) {
  auto now = from.nodeAt(operation.source);
  if (!now || !isSame(*now, node)) return error(ErrorCode::CHANGED, operation.source);
  auto line = disk.name + " put " + operation.path + " " + read.content;
  if (auto reason = whyNot(operation)) {
    scheduler.note(line + ": " + std::string(kebabCase(reason->code)));
    return *reason;
  }
  if (!disk.write(operation.path, read.content, node.size, node.mtime, node.mode, true))
    return error(ErrorCode::NOT_EMPTY, operation.path);
  scheduler.note(line);
  ++changes;
  Done result;
  result.node = disk.nodeAt(operation.path);
  result.node->digest = digestOfContent(read.content);
  // Written by the synchroniser itself: its stamp is known to be of this content, unless somebody writes right now.
  result.source = node;
  result.source->digest = result.node->digest;
  return result;
}

}  // namespace capstan::sync::sim
