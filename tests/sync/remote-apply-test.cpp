#include <sys/stat.h>

#include <gmock/gmock.h>

#include <capstan/sync/remote-upload.h>

#include "remote-fixture.h"

namespace capstan::sync {
namespace {

using RemoteApply = RemoteTest;
using Kind = Operation::Kind;

constexpr size_t LARGE = 3 << 20;

TEST_F(RemoteApply, AllKindsOfOperationsWorkInOneCall) {
  look();
  Operation link = operation(Kind::MAKE_SYMLINK, "d/link");
  link.node.type = EntryType::SYMLINK;
  link.node.target = "../nowhere";
  link.node.mtime = 5'000'000'007;
  auto done = apply({makeFolder("d"), put("d/small", "hello"), put("d/large", randomContent(LARGE)), link});
  ASSERT_EQ(done.size(), 4u);
  for (auto& one : done) ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(read("d/small"), "hello");
  EXPECT_EQ(read("d/large"), randomContent(LARGE));
  EXPECT_EQ(std::filesystem::read_symlink(at("d/link")), "../nowhere");
  struct stat status;
  ASSERT_EQ(stat(at("d/small").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(status.st_mtim.tv_nsec, 123'456'789);
  EXPECT_EQ(done[1]->node->stamp, nodeAt("d/small").stamp);
  EXPECT_EQ(done[1]->node->digest, digestOf(DigestAlgorithm::XXH3, "hello"));
  EXPECT_EQ(done[1]->source->stamp, local.files["d/small"].node.stamp);
  EXPECT_EQ(done[2]->chunks, chunksIn(randomContent(LARGE)));
  EXPECT_EQ(bytesMoved, LARGE + 5);
}

TEST_F(RemoteApply, MovesCopiesMetadataAndRemovals) {
  look();
  apply({put("a", "one"), put("b", "two"), makeFolder("e")});
  Operation move = operation(Kind::MOVE, "c");
  move.source = "a";
  move.sourceNode = nodeAt("a");
  Operation copy = operation(Kind::COPY, "e/copy");
  copy.source = "b";
  copy.sourceNode = nodeAt("b");
  copy.sourceNode->digest = digestOf(DigestAlgorithm::XXH3, "two");
  copy.node = *copy.sourceNode;
  copy.node.mode = 0600;
  Operation metadata = operation(Kind::SET_METADATA, "e");
  metadata.node = nodeAt("e");
  metadata.expected = metadata.node;
  metadata.node.mode = 0700;
  Operation removal = operation(Kind::REMOVE, "b");
  removal.expected = nodeAt("b");
  auto done = apply({move, copy, metadata, removal});
  for (auto& one : done) ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(read("c"), "one");
  EXPECT_EQ(read("e/copy"), "two");
  EXPECT_EQ(done[1]->node->digest, copy.sourceNode->digest);
  EXPECT_EQ(done[1]->node->mode, 0600u);
  EXPECT_EQ(nodeAt("e").mode, 0700u);
  EXPECT_FALSE(done[3]->node);
  EXPECT_FALSE(std::filesystem::exists(at("b")));
  EXPECT_FALSE(std::filesystem::exists(at("a")));
}

TEST_F(RemoteApply, WhatWasMovedCanBeReplacedInTheSameCall) {
  look();
  apply({put("a", "one")});
  Operation move = operation(Kind::MOVE, "b");
  move.source = "a";
  move.sourceNode = nodeAt("a");
  auto done = apply({move, put("b", "other", move.sourceNode), put("a", "new")});
  for (auto& one : done) ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(read("b"), "other");
  EXPECT_EQ(read("a"), "new");
}

TEST_F(RemoteApply, OnlyTheVersionThatWasSeenIsReplaced) {
  look();
  apply({put("a", "one"), put("b", "one")});
  Node seen = nodeAt("a");
  write("a", "edited at the server");
  auto done = apply({put("a", "two", seen), put("b", "two", nodeAt("b"))});
  ASSERT_FALSE(done[0].ok());
  EXPECT_EQ(done[0].error().code, ErrorCode::CONFLICT);
  EXPECT_EQ(read("a"), "edited at the server");
  EXPECT_TRUE(done[1].ok());
  EXPECT_EQ(apply({put("b", "three")})[0].error().code, ErrorCode::EXISTS);
  EXPECT_EQ(read("b"), "two");
}

TEST_F(RemoteApply, AFileThatChangesWhileItIsReadHoldsUpNobody) {
  look();
  auto changing = put("a", "one");
  auto largeChanging = put("b", randomContent(LARGE));
  local.files["a"].changesWhileRead = true;
  local.files["b"].changesWhileRead = true;
  auto done = apply({changing, largeChanging, put("c", "three")});
  EXPECT_EQ(done[0].error().code, ErrorCode::CHANGED);
  EXPECT_EQ(done[1].error().code, ErrorCode::CHANGED);
  EXPECT_TRUE(done[2].ok());
  EXPECT_FALSE(std::filesystem::exists(at("a")));
  EXPECT_FALSE(std::filesystem::exists(at("b")));
  EXPECT_EQ(read("c"), "three");
}

TEST_F(RemoteApply, OfAFileThatBecomesShorterNothingStaysAtTheServer) {
  look();
  auto shorter = put("a", randomContent(LARGE));
  local.files["a"].endsAt = LARGE / 2;
  EXPECT_EQ(apply({shorter})[0].error().code, ErrorCode::CHANGED);
  EXPECT_GT(bytesMoved, 0u);
  // As if the same content were there again: nothing is left to go on from.
  local.files["a"].endsAt = UINT64_MAX;
  bytesMoved = 0;
  EXPECT_TRUE(apply({shorter})[0].ok());
  EXPECT_EQ(bytesMoved, LARGE);
}

TEST_F(RemoteApply, OnlyWhatDiffersOfALargeFileTravels) {
  look();
  std::string content = randomContent(LARGE);
  auto first = apply({put("big", content)});
  ASSERT_TRUE(first[0].ok());
  auto chunks = *first[0]->chunks;
  options.chunksOf = [chunks](const std::string&) { return chunks; };
  content.insert(1'000'000, "!");
  content[2'000'000] = char(content[2'000'000] + 1);
  bytesMoved = 0;
  auto second = apply({put("big", content, *first[0]->node)});
  ASSERT_TRUE(second[0].ok()) << second[0].error().message;
  EXPECT_EQ(read("big"), content);
  EXPECT_LT(bytesMoved, 4u * MAX_CHUNK_BYTES);
  EXPECT_GT(bytesMoved, 0u);
}

TEST_F(RemoteApply, HolesAreNotSent) {
  look();
  std::string content = randomContent(LARGE);
  std::fill(content.begin() + 100'000, content.begin() + 2'000'000, '\0');
  auto operation = put("sparse", content);
  local.files["sparse"].holes = {{100'000, 1'900'000}};
  auto done = apply({operation});
  ASSERT_TRUE(done[0].ok()) << done[0].error().message;
  EXPECT_EQ(read("sparse"), content);
  EXPECT_EQ(bytesMoved, LARGE - 1'900'000);
}

TEST_F(RemoteApply, AFolderAndAFileTakeEachOthersPlace) {
  look();
  apply({makeFolder("a"), put("b", "file"), makeFolder("c")});
  auto folder = makeFolder("b");
  folder.expected = nodeAt("b");
  auto done =
      apply({put("a", "file", nodeAt("a")), folder, put("b/in", "it"), put("c", randomContent(LARGE), nodeAt("c"))});
  for (auto& one : done) ASSERT_TRUE(one.ok()) << one.error().message;
  EXPECT_EQ(read("a"), "file");
  EXPECT_EQ(read("b/in"), "it");
  EXPECT_EQ(read("c"), randomContent(LARGE));
}

TEST_F(RemoteApply, ACopyWithoutASourceIsSent) {
  look();
  Operation copy = operation(Kind::COPY, "copy");
  copy.source = "not-there";
  copy.node = local.put("copy", "the content");
  copy.sourceNode = copy.node;
  auto done = apply({copy});
  ASSERT_TRUE(done[0].ok()) << done[0].error().message;
  EXPECT_EQ(read("copy"), "the content");
}

TEST_F(RemoteApply, WhatIsMadeIsNoNewsAfterwards) {
  auto first = look();
  apply({makeFolder("d"), put("d/a", "1")});
  auto second = look(first.cursor);
  EXPECT_EQ(pathsOf(second), "d d/a");
  EXPECT_EQ(second.changes.at("d/a")->stamp, nodeAt("d/a").stamp);
}

TEST_F(RemoteApply, ALostConnectionIsAnErrorOfEachOperation) {
  look();
  serving.server = nullptr;
  auto done = apply({put("a", "1"), put("b", randomContent(LARGE))});
  for (auto& one : done) {
    ASSERT_FALSE(one.ok());
    EXPECT_EQ(one.error().code, ErrorCode::UNREACHABLE) << one.error().message;
  }
}

TEST_F(RemoteApply, ContentsAreReadAsTheyWere) {
  std::string content = randomContent(LARGE);
  write("small", "hello");
  write("large", content);
  auto fetched = serving.inTime(remote->fetch("small", nodeAt("small")));
  ASSERT_TRUE(fetched.ok()) << fetched.error().message;
  EXPECT_EQ(fetched->bytes, "hello");
  Node old = nodeAt("small");
  write("small", "other");
  old.stamp += "x";
  EXPECT_EQ(serving.inTime(remote->fetch("small", old)).error().code, ErrorCode::CHANGED);

  auto opened = serving.inTime(remote->open("large", nodeAt("large")));
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  std::string all(content.size(), '\0');
  for (size_t offset = 0; offset < all.size();) {
    size_t count = std::min<size_t>(all.size() - offset, 300'000);
    ASSERT_TRUE(serving.inTime((*opened)->read(offset, all.data() + offset, count)).ok());
    offset += count;
  }
  EXPECT_EQ(all, content);
  std::string part(1000, '\0');
  ASSERT_TRUE(serving.inTime((*opened)->read(12345, part.data(), part.size())).ok());
  EXPECT_EQ(part, content.substr(12345, 1000));
  auto cut = serving.inTime((*opened)->cut({}));
  ASSERT_TRUE(cut.ok()) << cut.error().message;
  EXPECT_EQ(cut->chunks, chunksIn(content));
  EXPECT_EQ(cut->digest, digestOf(DigestAlgorithm::XXH3, content));
  EXPECT_TRUE(serving.inTime((*opened)->checkUnchanged()).ok());
  auto digests = serving.inTime(remote->digests({"large", "missing"}));
  EXPECT_EQ(*digests[0], cut->digest);
  EXPECT_EQ(digests[1].error().code, ErrorCode::NOT_FOUND);
}

std::string textOf(const std::vector<Stretch>& stretches) {
  std::string text;
  for (auto& one : stretches) {
    text += std::to_string(one.offset) + "+" + std::to_string(one.length);
    text += one.base ? "<" + std::to_string(*one.base) + " " : " ";
  }
  return text;
}

TEST(Stretches, NeighboursAreOneStretch) {
  Chunk a{10, 1, 1}, b{20, 2, 2}, c{30, 3, 3}, d{40, 4, 4};
  EXPECT_EQ(textOf(stretchesOf({a, b, c}, {a, b, c})), "0+60<0 ");
  EXPECT_EQ(textOf(stretchesOf({a, d, c}, {a, b, c})), "0+10<0 10+40 50+30<30 ");
  EXPECT_EQ(textOf(stretchesOf({d, b, b, b}, {a, b})), "0+40 40+20<10 60+20<10 80+20<10 ");
  // Equal chunks: the one that goes on is taken.
  EXPECT_EQ(textOf(stretchesOf({a, b, a, c}, {a, b, a, c})), "0+70<0 ");
  EXPECT_EQ(textOf(stretchesOf({}, {a})), "");
}

}  // namespace
}  // namespace capstan::sync
