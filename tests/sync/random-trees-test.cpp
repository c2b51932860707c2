// Plans for random trees with random edits on both sides, carried out on a model: every operation finds what it needs,
// both sides are in step afterwards, and no content is lost. CAPSTAN_CASES sets the number of cases
// (1,000,000 with CAPSTAN_TEST_LONG=1), CAPSTAN_SEED the first one; a failure names its seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "model-tree.h"

namespace capstan::sync::model {
namespace {

constexpr uint64_t DEFAULT_CASES = 25'000;
constexpr uint64_t LONG_CASES = 1'000'000;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

uint64_t cases() {
  return fromEnvironment("CAPSTAN_CASES", fromEnvironment("CAPSTAN_TEST_LONG", 0) == 1 ? LONG_CASES : DEFAULT_CASES);
}

// Does to a side what people do.
class Editor {
 public:
  Editor(World& world, std::mt19937_64& random) : world(world), random(random) {}

  void edit(Side side);
  void grow(Side side, int entries);

 private:
  World& world;
  std::mt19937_64& random;

  uint64_t below(uint64_t limit) { return random() % limit; }
  std::string anyPath(Side side);
  std::string anyFile(Side side);
  std::string freePath(Side side);
  void create(Side side, const std::string& path);
  void swap(Side side, const std::string& a, const std::string& b);
  void moveInto(Side side, const std::string& path);
};

std::string Editor::anyPath(Side side) {
  Tree& tree = world.tree(side);
  if (tree.empty()) return {};
  return std::next(tree.begin(), below(tree.size()))->first;
}

std::string Editor::anyFile(Side side) {
  for (int tries = 0; tries < 8; ++tries) {
    std::string path = anyPath(side);
    if (!path.empty() && world.tree(side)[path].node.type == EntryType::FILE) return path;
  }
  return {};
}

// A place where nothing is, in the top or in a folder; few names, so that they meet.
std::string Editor::freePath(Side side) {
  for (int tries = 0; tries < 8; ++tries) {
    std::string folder = anyPath(side);
    if (!folder.empty() && world.tree(side)[folder].node.type != EntryType::DIRECTORY) folder = parentOf(folder);
    if (below(3) == 0) folder.clear();
    std::string path = joinPath(folder, std::string(1, 'a' + below(6)));
    if (!world.tree(side).contains(path)) return path;
  }
  return {};
}

void Editor::create(Side side, const std::string& path) {
  if (path.empty()) return;
  switch (below(6)) {
    case 0:
    case 1: world.makeFolder(side, path); break;
    case 2: world.makeSymlink(side, path, std::string(1, 'x' + below(2))); break;
    default: world.write(side, path, world.newContent());
  }
}

void Editor::grow(Side side, int entries) {
  for (int i = 0; i < entries; ++i) create(side, freePath(side));
}

void Editor::swap(Side side, const std::string& a, const std::string& b) {
  if (a.empty() || b.empty() || isWithin(a, b) || isWithin(b, a)) return;
  world.rename(side, a, "swapping");
  world.rename(side, b, a);
  world.rename(side, "swapping", b);
}

// mv f x; mkdir f; mv x f/b
void Editor::moveInto(Side side, const std::string& path) {
  world.rename(side, path, "moving");
  world.makeFolder(side, path);
  world.rename(side, "moving", path + "/b");
}

void Editor::edit(Side side) {
  std::string path = anyPath(side), file = anyFile(side), free = freePath(side);
  if (path.empty() || free.empty()) return create(side, free);
  switch (below(16)) {
    case 0:
    case 1: return create(side, free);
    case 2:
    case 3:
      if (!file.empty()) world.write(side, file, world.newContent());
      return;
    case 4:
    case 5: return world.remove(side, path);
    case 6:
    case 7:
    case 8:
      if (!isWithin(free, path)) world.rename(side, path, free);
      return;
    case 9:
      if (std::string to = anyFile(side); !file.empty() && !to.empty() && to != file) world.rename(side, file, to);
      return;
    case 10: world.remove(side, path); return create(side, path);
    case 11: {
      bool isFolder = world.tree(side)[path].node.type == EntryType::DIRECTORY;
      constexpr uint32_t MODES[] = {0700, 0755, 0555};
      if (world.tree(side)[path].node.type != EntryType::SYMLINK) {
        world.setMode(side, path, isFolder ? MODES[below(3)] : 0600 + below(2) * 044);
      }
      return;
    }
    case 12:
      if (!file.empty()) world.setTime(side, file);
      return;
    case 13:
      if (!file.empty()) world.copy(side, file, free);
      return;
    case 14: return swap(side, path, anyPath(side));
    default: return moveInto(side, path);
  }
}

// One random world, and what must hold of the plans for it.
class Case {
 public:
  explicit Case(uint64_t seed) : random(seed), editor(world, random) {
    options.mode = std::vector<Mode>{Mode::PUSH, Mode::PULL, Mode::TWO_WAY}[random() % 3];
    options.checkContent = random() % 5 == 0;
    world.knowsDigests = random() % 2;
    if (options.checkContent) world.knowsDigests = true;
    options.conflictPath = [this](std::string_view path) {
      return std::string(path) + ".conflict-" + std::to_string(++conflicts);
    };
    options.findContent = [this](Side side, const Node& node) { return findContent(side, node); };
  }

  void run();
  void runUnexplained();

 private:
  World world;
  std::mt19937_64 random;
  Editor editor;
  PlanOptions options;
  int conflicts = 0;
  std::string history;

  std::string findContent(Side side, const Node& node);
  Plan plan();
  void apply(const Plan& plan, size_t count, size_t recorded);
  std::set<uint64_t> contents(Side side);
  void expectInStep();
  void settle();
};

std::string Case::findContent(Side side, const Node& node) {
  for (const auto& [path, agreement] : world.agreed) {
    const Node& there = agreement.on(side);
    if (there.type != EntryType::FILE || there.size != node.size || there.digest != node.digest) continue;
    auto now = world.tree(side).find(path);
    if (now != world.tree(side).end() && isAsAgreed(now->second.node, there)) return path;
  }
  return {};
}

Plan Case::plan() {
  Plan made = makePlan(world.differences(options), options);
  history += world.describe() + "plan\n";
  for (const Operation& operation : made.operations) history += "  " + describe(operation) + "\n";
  if (options.mode == Mode::TWO_WAY) return made;
  Side source = options.mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE;
  for (const Operation& operation : made.operations) {
    bool changesSource = operation.side == source && operation.kind != Operation::Kind::AGREE &&
                         operation.kind != Operation::Kind::FORGET;
    EXPECT_FALSE(changesSource) << describe(operation) << "\n" << history;
  }
  return made;
}

void Case::apply(const Plan& plan, size_t count, size_t recorded) {
  std::string wrong = world.apply(plan, count, recorded);
  ASSERT_EQ(wrong, "") << history;
}

std::set<uint64_t> Case::contents(Side side) {
  std::set<uint64_t> all;
  for (const auto& [path, entry] : world.tree(side)) {
    if (entry.node.type == EntryType::FILE) all.insert(entry.content);
  }
  return all;
}

void Case::expectInStep() {
  Tree& local = world.tree(Side::LOCAL);
  Tree& remote = world.tree(Side::REMOTE);
  ASSERT_EQ(local.size(), remote.size()) << history << world.describe();
  for (auto l = local.begin(), r = remote.begin(); l != local.end(); ++l, ++r) {
    const Node &a = l->second.node, &b = r->second.node;
    bool isSame = l->first == r->first && a.type == b.type && l->second.content == r->second.content &&
                  a.target == b.target && a.mode == b.mode && (a.type != EntryType::FILE || a.mtime == b.mtime);
    ASSERT_TRUE(isSame) << l->first << " and " << r->first << "\n" << history << world.describe();
  }
}

void Case::settle() {
  for (int rounds = 1; rounds <= 2; ++rounds) {
    Plan next = plan();
    ASSERT_TRUE(next.withheld.empty()) << history;
    if (next.operations.empty()) break;
    ASSERT_LT(rounds, 2) << "nothing should be left to do\n" << history;
    ASSERT_NO_FATAL_FAILURE(apply(next, next.operations.size(), next.operations.size()));
  }
  expectInStep();
}

void Case::run() {
  editor.grow(Side::LOCAL, 3 + random() % 12);
  world.agreeAboutAll();
  std::set<uint64_t> old = contents(Side::LOCAL);
  for (uint64_t edits = random() % 8; edits > 0; --edits) editor.edit(Side::LOCAL);
  for (uint64_t edits = random() % 8; edits > 0; --edits) editor.edit(Side::REMOTE);
  std::set<uint64_t> expected[] = {contents(Side::LOCAL), contents(Side::REMOTE)};
  if (random() % 3 == 0) {
    // Interrupted: not everything was done, and not all of that was remembered.
    Plan first = plan();
    size_t done = random() % (first.operations.size() + 1);
    ASSERT_NO_FATAL_FAILURE(apply(first, done, random() % (done + 1)));
    history += "interrupted after " + std::to_string(done) + "\n";
  }
  ASSERT_NO_FATAL_FAILURE(settle());
  std::set<uint64_t> left = contents(Side::LOCAL);
  for (int side = 0; side < 2; ++side) {
    for (uint64_t content : expected[side]) {
      ASSERT_TRUE(left.contains(content) || world.trash.contains(content)) << content << " is lost\n" << history;
      bool mayGo = old.contains(content) || options.mode == (side == 0 ? Mode::PULL : Mode::PUSH);
      ASSERT_TRUE(mayGo || left.contains(content)) << content << " was removed\n" << history;
    }
  }
}

// Nothing was ever agreed about: what only the target has stays until that is accepted.
void Case::runUnexplained() {
  if (options.mode == Mode::TWO_WAY) options.mode = Mode::PUSH;
  Side source = options.mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE;
  editor.grow(Side::LOCAL, 2 + random() % 8);
  if (random() % 2) {
    world.agreeAboutAll();
    world.agreed.clear();
  }
  editor.grow(Side::REMOTE, random() % 6);
  for (uint64_t edits = random() % 5; edits > 0; --edits) editor.edit(Side::REMOTE);
  Tree before = world.tree(other(source));
  options.isUnexplained = [](std::string_view) { return true; };
  Plan careful = plan();
  uint64_t withheld = 0;
  for (const Withheld& one : careful.withheld) withheld += one.isDeletion;
  ASSERT_EQ(careful.deletions, 0u) << history;
  ASSERT_NO_FATAL_FAILURE(apply(careful, careful.operations.size(), careful.operations.size()));
  for (const auto& [path, entry] : before) {
    ASSERT_TRUE(world.tree(other(source)).contains(path)) << path << " was removed\n" << history;
  }
  options.acceptUnexplained = true;
  Plan accepted = plan();
  ASSERT_EQ(accepted.deletions, withheld) << history;
  ASSERT_NO_FATAL_FAILURE(settle());
}

void runCases(void (Case::*run)(), uint64_t count) {
  uint64_t seed = fromEnvironment("CAPSTAN_SEED", 1);
  for (uint64_t i = 0; i < count; ++i) {
    SCOPED_TRACE("CAPSTAN_SEED=" + std::to_string(seed + i));
    (Case(seed + i).*run)();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(RandomTrees, AreInStepAfterOnePlanAndLoseNothing) { runCases(&Case::run, cases()); }

TEST(RandomTrees, KeepWhatNobodyCanExplainUntilItIsAccepted) { runCases(&Case::runUnexplained, cases() / 4); }

}  // namespace
}  // namespace capstan::sync::model
