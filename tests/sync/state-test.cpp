// The state: what is written is read again, in the order of trees, by others meanwhile, after damage and from older
// versions of the tables.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <capstan/storage/database.h>
#include <capstan/sync/state-database.h>
#include <capstan/sync/state-record.h>
#include <capstan/sync/state.h>

#include "local-fixture.h"

namespace capstan::sync {
namespace {

const State::Pair PAIR{"/home/me/notes", "server.example", "backup/notes"};

Agreed file(uint64_t size, const std::string& digest, const std::string& stamp = "stamp-of-16-byte") {
  Node node;
  node.type = EntryType::FILE;
  node.size = size;
  node.mtime = 1'700'000'000'123'456'789;
  node.mode = 0644;
  node.stamp = stamp;
  node.identity = 0xFEDCBA9876543210;
  node.digest = digest;
  Agreed agreed{node, node};
  agreed.remote.stamp = "remote " + stamp;
  agreed.remote.identity = 7;
  return agreed;
}

StateChange set(const std::string& path, Agreed agreed, std::optional<std::vector<Chunk>> chunks = std::nullopt) {
  return {StateChange::Kind::SET, path, {}, std::move(agreed), std::move(chunks)};
}

void expectSame(const Node& a, const Node& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.mtime, b.mtime);
  EXPECT_EQ(a.mode, b.mode);
  EXPECT_EQ(a.target, b.target);
  EXPECT_EQ(a.stamp, b.stamp);
  EXPECT_EQ(a.identity, b.identity);
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_EQ(a.settled, b.settled);
}

std::vector<std::string> pathsOf(State& state, std::string_view below = {}) {
  std::vector<std::string> paths;
  auto reader = state.read(below);
  EXPECT_TRUE(reader.ok());
  while (reader.ok()) {
    auto more = (*reader)->next();
    EXPECT_TRUE(more.ok());
    if (!more.ok() || !*more) break;
    paths.push_back((*reader)->path());
  }
  return paths;
}

class StateFileTest : public LocalTest {
 protected:
  std::unique_ptr<State> open() { return expectOk(State::open(path("states"), PAIR)); }
  std::string databaseFile() const { return stateFileOf(path("states"), PAIR); }
};

TEST(StateRecord, WhatWasAgreedIsReadAsItWasWritten) {
  std::mt19937_64 random(4);
  auto text = [&](size_t most) {
    std::string bytes(random() % (most + 1), '\0');
    for (char& c : bytes) c = char(random());
    return bytes;
  };
  auto node = [&]() {
    Node made;
    made.type = EntryType(1 + random() % 3);
    made.size = random() >> (random() % 64);
    made.mtime = int64_t(random());
    made.mode = random() % 010000;
    made.target = text(300);
    made.stamp = text(32);
    made.identity = random();
    made.digest = text(16);
    made.settled = random() % 2;
    return made;
  };
  std::string record;
  Agreed read;
  for (int i = 0; i < 1000; ++i) {
    Agreed agreed{node(), node()};
    if (random() % 2) agreed.remote = agreed.local;
    encodeAgreed(record, agreed);
    ASSERT_TRUE(decodeAgreed(read, record));
    expectSame(read.local, agreed.local);
    expectSame(read.remote, agreed.remote);
    // Half a record is no record.
    EXPECT_FALSE(decodeAgreed(read, std::string_view(record).substr(0, random() % record.size())));
    EXPECT_FALSE(decodeAgreed(read, record + "x"));
  }
}

TEST(StateRecord, KeysAreOrderedAsTreesAre) {
  std::vector<std::string> paths = {"a", "a b", "a/b", "a/b/c", "a/bc", "a-", "a.", "b", "a/\xFF", "\xFF\xFF/x", "a0"};
  for (const auto& a : paths) {
    for (const auto& b : paths) {
      int keys = keyOf(a).compare(keyOf(b));
      EXPECT_EQ(keys < 0, comparePaths(a, b) < 0) << a << " " << b;
      EXPECT_EQ(keys == 0, a == b);
    }
    std::string back;
    assignPath(back, keyOf(a));
    EXPECT_EQ(back, a);
  }
}

TEST(State, GivesBackWhatWasAgreedAndForgetsWhatIsErased) {
  auto state = State::inMemory();
  ASSERT_TRUE(
      state->apply({set("a/b", file(5, "0123456789abcdef")), set("a", file(0, "")), set("c", file(1, ""))}).ok());
  EXPECT_EQ(state->count(), 3u);
  expectSame(state->find("a/b")->local, file(5, "0123456789abcdef").local);
  expectSame(state->find("a/b")->remote, file(5, "0123456789abcdef").remote);
  ASSERT_TRUE(state->apply({set("a/b", file(6, "")), {StateChange::Kind::ERASE, "c", {}, {}, {}}}).ok());
  EXPECT_EQ(state->count(), 2u);
  EXPECT_EQ(state->find("a/b")->local.size, 6u);
  EXPECT_FALSE(state->find("c"));
  EXPECT_FALSE(state->find("a/"));
}

TEST(State, IsReadInTheOrderOfTreesAndBelowOneFolder) {
  auto state = State::inMemory();
  std::vector<std::string> paths = {"a", "a/b", "a/b/c", "a b", "a0", "b", "b/\xFF"};
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    ASSERT_TRUE(state->apply({set(*path, file(1, ""))}).ok());
  }
  EXPECT_EQ(pathsOf(*state), paths);
  EXPECT_EQ(pathsOf(*state, "a"), (std::vector<std::string>{"a/b", "a/b/c"}));
  EXPECT_EQ(pathsOf(*state, "a0"), std::vector<std::string>{});
}

TEST(State, MovesAFolderWithAllThatIsInItAndItsChunks) {
  auto state = State::inMemory();
  std::vector<Chunk> chunks = {{8192, 1, 2}, {70000, UINT64_MAX, 4}};
  ASSERT_TRUE(state
                  ->apply({set("a", file(0, "")), set("a/x", file(78192, "0123456789abcdef"), chunks),
                           set("a/d/y", file(2, "")), set("ab", file(3, ""))})
                  .ok());
  ASSERT_TRUE(state->apply({{StateChange::Kind::MOVE, "n/m", "a", {}, {}}}).ok());
  EXPECT_EQ(pathsOf(*state), (std::vector<std::string>{"ab", "n/m", "n/m/d/y", "n/m/x"}));
  EXPECT_EQ(state->count(), 4u);
  EXPECT_EQ(state->chunks("n/m/x"), chunks);
  EXPECT_FALSE(state->chunks("a/x"));
  EXPECT_EQ(state->findContent(78192, "0123456789abcdef"), "n/m/x");
}

TEST(State, ForgetsChunksOfAnotherContent) {
  auto state = State::inMemory();
  std::vector<Chunk> chunks = {{8192, 1, 2}};
  ASSERT_TRUE(state->apply({set("a", file(8192, "0123456789abcdef"), chunks)}).ok());
  ASSERT_TRUE(state->apply({set("a", file(8192, "0123456789abcdef", "another stamp"))}).ok());
  EXPECT_EQ(state->chunks("a"), chunks);
  ASSERT_TRUE(state->apply({set("a", file(8192, "other 9abcdef..."))}).ok());
  EXPECT_FALSE(state->chunks("a"));
  ASSERT_TRUE(state->apply({set("b", file(8192, ""), chunks)}).ok());
  ASSERT_TRUE(state->apply({set("b", file(8192, ""))}).ok());
  EXPECT_FALSE(state->chunks("b"));
}

TEST(State, FindsContentByAllOfItsDigest) {
  auto state = State::inMemory();
  ASSERT_TRUE(
      state->apply({set("a", file(5000, "0123456789abcdef")), set("small", file(100, "0123456789abcdef"))}).ok());
  EXPECT_TRUE(state->hasSize(5000));
  EXPECT_FALSE(state->hasSize(5001));
  EXPECT_FALSE(state->hasSize(100));
  EXPECT_EQ(state->findContent(5000, "0123456789abcdef"), "a");
  EXPECT_FALSE(state->findContent(5000, "01234567XXXXXXXX"));
  EXPECT_FALSE(state->findContent(5001, "0123456789abcdef"));
}

TEST_F(StateFileTest, LastsFromOneRunToTheNext) {
  {
    auto state = open();
    EXPECT_FALSE(state->wasLost());
    ASSERT_TRUE(state->apply({set("a", file(1, "")), set("b", file(2, ""))}).ok());
    ASSERT_TRUE(state->set("cursor", std::string("\0\1", 2)).ok());
    ASSERT_TRUE(state->setKept({"x/y", "z"}, true).ok());
    ASSERT_TRUE(state->setKept({"z"}, false).ok());
    ASSERT_TRUE(state->addConflict({"r.txt", "r.conflict-1.txt", 42, "both"}).ok());
    ASSERT_TRUE(state->addConflict({"s.txt", "s.conflict-1.txt", 41, "both"}).ok());
    ASSERT_TRUE(state->closeConflict("s.conflict-1.txt").ok());
  }
  auto state = open();
  EXPECT_FALSE(state->wasLost());
  EXPECT_EQ(state->count(), 2u);
  EXPECT_EQ(state->get("cursor"), std::string("\0\1", 2));
  EXPECT_EQ(state->get("nothing"), "");
  EXPECT_TRUE(state->isKept("x/y"));
  EXPECT_FALSE(state->isKept("z"));
  auto conflicts = state->conflicts();
  ASSERT_EQ(conflicts.size(), 1u);
  EXPECT_EQ(conflicts[0].path, "r.txt");
  EXPECT_EQ(conflicts[0].kept, "r.conflict-1.txt");
  EXPECT_EQ(conflicts[0].time, 42);
  EXPECT_EQ(conflicts[0].reason, "both");
}

TEST_F(StateFileTest, IsHeldByOneProcessAtATime) {
  auto state = open();
  expectError(State::open(path("states"), PAIR), ErrorCode::CONFLICT);
  // Another pair is another state.
  EXPECT_TRUE(State::open(path("states"), {PAIR.local, PAIR.server, "other"}).ok());
  state.reset();
  open();
}

TEST_F(StateFileTest, AReaderSeesTheMomentInWhichItBegan) {
  auto state = open();
  std::vector<StateChange> changes;
  for (int i = 0; i < 2000; ++i) changes.push_back(set("f" + std::to_string(i), file(uint64_t(i), "")));
  ASSERT_TRUE(state->apply(changes).ok());
  auto reader = expectOk(state->read());
  uint64_t seen = 0;
  std::thread other([&]() {
    while (true) {
      auto more = reader->next();
      if (!more.ok() || !*more) break;
      ++seen;
    }
  });
  for (StateChange& change : changes) change.kind = StateChange::Kind::ERASE;
  EXPECT_TRUE(state->apply(changes).ok());
  other.join();
  EXPECT_EQ(seen, 2000u);
  EXPECT_EQ(state->count(), 0u);
  reader = nullptr;
  EXPECT_EQ(pathsOf(*state).size(), 0u);
}

TEST_F(StateFileTest, AReaderInMemoryToo) {
  auto state = State::inMemory();
  ASSERT_TRUE(state->apply({set("a", file(1, "")), set("b", file(1, ""))}).ok());
  auto reader = expectOk(state->read());
  ASSERT_TRUE(state->apply({{StateChange::Kind::ERASE, "b", {}, {}, {}}}).ok());
  EXPECT_TRUE(expectOk(reader->next()));
  EXPECT_TRUE(expectOk(reader->next()));
  EXPECT_EQ(reader->path(), "b");
  EXPECT_FALSE(expectOk(reader->next()));
}

TEST_F(StateFileTest, ADamagedOneIsMovedAsideAndToldAsLost) {
  ASSERT_TRUE(open()->apply({set("a", file(1, ""))}).ok());
  std::ofstream(databaseFile(), std::ios::binary) << "this is no database, and it is longer than a header of one is; "
                                                     "so that nobody takes it for an empty one: "
                                                  << std::string(5000, 'x');
  auto state = open();
  ASSERT_TRUE(state != nullptr);
  EXPECT_TRUE(state->wasLost());
  EXPECT_EQ(state->count(), 0u);
  size_t aside = 0;
  for (auto& entry : std::filesystem::directory_iterator(path("states"))) {
    aside += entry.path().string().find(".damaged-") != std::string::npos;
  }
  EXPECT_EQ(aside, 1u);
  state.reset();
  EXPECT_FALSE(open()->wasLost());
}

TEST_F(StateFileTest, DamageThatIsFoundLaterIsToldAtTheNextStart) {
  std::vector<StateChange> changes;
  for (int i = 0; i < 5000; ++i) changes.push_back(set("f" + std::to_string(i), file(uint64_t(i), "")));
  ASSERT_TRUE(open()->apply(changes).ok());
  {
    // Pages in the middle, which nobody reads before he needs them.
    std::fstream file(databaseFile(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(0, std::ios::end);
    auto size = file.tellp();
    ASSERT_GT(size, 100'000);
    file.seekp(60'000);
    file << std::string(size_t(size) / 2, '\x77');
  }
  {
    auto state = open();
    ASSERT_TRUE(state != nullptr);
    if (!state->wasLost()) {
      // What cannot be read is not agreed; that is never evidence for a deletion.
      size_t missing = 0;
      for (int i = 0; i < 5000; ++i) missing += !state->find("f" + std::to_string(i));
      EXPECT_GT(missing, 1000u);
      state.reset();
      state = open();
    }
    EXPECT_TRUE(state->wasLost());
    EXPECT_EQ(state->count(), 0u);
  }
  EXPECT_FALSE(open()->wasLost());
}

TEST_F(StateFileTest, DamageThatAReaderFindsIsNotFoundForGood) {
  std::vector<StateChange> changes;
  for (int i = 0; i < 100; ++i) changes.push_back(set("f" + std::to_string(i), file(uint64_t(i), "")));
  ASSERT_TRUE(open()->apply(changes).ok());
  {
    auto database = expectOk(storage::Database::open(databaseFile(), {"a state", "test", false}));
    ASSERT_TRUE(database.execute("UPDATE entries SET record = x'77' WHERE key = (SELECT max(key) FROM entries)").ok());
  }
  auto state = open();
  EXPECT_FALSE(state->wasLost());
  EXPECT_FALSE(state->isDamaged());
  {
    auto reader = expectOk(state->read());
    auto more = reader->next();
    while (more.ok() && *more) more = reader->next();
    expectError(more, ErrorCode::CORRUPT);
  }
  EXPECT_TRUE(state->isDamaged());
  state.reset();
  EXPECT_TRUE(open()->wasLost());
}

TEST_F(StateFileTest, OneOfANewerVersionIsNotTouched) {
  ASSERT_TRUE(open()->apply({set("a", file(1, ""))}).ok());
  {
    auto database = expectOk(storage::Database::open(databaseFile(), {"a state", "test", false}));
    ASSERT_TRUE(database.execute("PRAGMA user_version = 99").ok());
  }
  auto state = open();
  EXPECT_TRUE(state->wasLost());
  EXPECT_EQ(state->count(), 0u);
}

TEST_F(StateFileTest, OneOfVersion1IsTakenOver) {
  ASSERT_TRUE(open()->apply({set("a", file(1, "")), set("b", file(2, ""))}).ok());
  {
    auto database = expectOk(storage::Database::open(databaseFile(), {"a state", "test", false}));
    ASSERT_TRUE(database.execute("DROP TABLE kept; DROP TABLE conflicts; PRAGMA user_version = 1").ok());
  }
  auto state = open();
  EXPECT_FALSE(state->wasLost());
  EXPECT_EQ(pathsOf(*state), (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(state->setKept({"x"}, true).ok());
  EXPECT_TRUE(state->isKept("x"));
}

TEST_F(StateFileTest, IsFoundByALocalPathForReading) {
  expectError(State::openToRead(path("states"), "/home/me/notes/a"), ErrorCode::NOT_FOUND);
  auto state = open();
  ASSERT_TRUE(state->apply({set("a", file(1, ""))}).ok());
  auto inner = expectOk(State::open(path("states"), {"/home/me/notes/deep", "server", ""}));
  auto found = expectOk(State::openToRead(path("states"), "/home/me/notes/a"));
  ASSERT_TRUE(found != nullptr);
  EXPECT_EQ(found->pair().remote, PAIR.remote);
  EXPECT_TRUE(found->find("a"));
  EXPECT_EQ(found->count(), 1u);
  EXPECT_EQ(expectOk(State::openToRead(path("states"), "/home/me/notes/deep/x"))->pair().server, "server");
  expectError(State::openToRead(path("states"), "/home/me/notesbook"), ErrorCode::NOT_FOUND);
  EXPECT_EQ(std::filesystem::status(path("states")).permissions(), std::filesystem::perms(0700));
}

}  // namespace
}  // namespace capstan::sync
