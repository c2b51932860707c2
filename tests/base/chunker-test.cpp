#include <capstan/base/chunker.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <capstan/base/digest.h>

namespace capstan {
namespace {

// The same bytes on every machine.
std::string noise(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = char(random());
  return bytes;
}

std::vector<Chunk> cut(std::string_view bytes) {
  std::vector<Chunk> chunks;
  while (!bytes.empty()) {
    size_t length = chunkLength(bytes);
    chunks.push_back(chunkOf(bytes.substr(0, length)));
    bytes.remove_prefix(length);
  }
  return chunks;
}

// The rule as the schema words it, one byte after the other.
size_t lengthByTheRule(std::string_view bytes) {
  std::vector<uint64_t> gear;
  uint64_t state = 0x43617073746170ff;
  for (int i = 0; i < 256; ++i) {
    uint64_t z = (state += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    gear.push_back(z ^ (z >> 31));
  }
  uint64_t hash = 0;
  for (size_t i = 8192; i < bytes.size(); ++i) {
    hash = (hash << 1) + gear[uint8_t(bytes[i])];
    uint64_t mask = i < 32768 ? 0xFFFF800000000000 : 0xFFF8000000000000;
    if ((hash & mask) == 0 || i + 1 == 131072) return i + 1;
  }
  return bytes.size();
}

TEST(Chunker, CutsWhereTheSchemaSays) {
  std::string bytes = noise(3 << 20, 1);
  for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(chunkLength(rest))) {
    ASSERT_EQ(chunkLength(rest), lengthByTheRule(rest)) << "at " << bytes.size() - rest.size();
  }
}

// These values may never change: clients and servers of different versions have to cut alike.
TEST(Chunker, CutsAsItEverDid) {
  auto chunks = cut(noise(1 << 20, 42));
  std::vector<uint32_t> lengths;
  for (const Chunk& chunk : chunks) lengths.push_back(chunk.length);
  lengths.resize(6);
  EXPECT_EQ(lengths, (std::vector<uint32_t>{75767, 36557, 39987, 36588, 44482, 8934}));
}

TEST(Chunker, NamesAChunkByItsDigestInCanonicalOrder) {
  Chunk chunk = chunkOf("hello");
  std::string canonical;
  for (uint64_t half : {chunk.high, chunk.low}) {
    for (int shift = 56; shift >= 0; shift -= 8) canonical.push_back(char(half >> shift));
  }
  EXPECT_EQ(canonical, digestOf(DigestAlgorithm::XXH3, "hello"));
  EXPECT_EQ(chunk.length, 5u);
}

TEST(Chunker, ChangesFewChunksWhenAByteIsInserted) {
  std::string bytes = noise(8 << 20, 7);
  auto before = cut(bytes);
  bytes.insert(bytes.size() / 2, 1, 'x');
  auto after = cut(bytes);
  size_t same = 0;
  while (same < before.size() && before[same] == after[same]) ++same;
  size_t sameAtTheEnd = 0;
  while (sameAtTheEnd < before.size() - same &&
         before[before.size() - 1 - sameAtTheEnd] == after[after.size() - 1 - sameAtTheEnd]) {
    ++sameAtTheEnd;
  }
  EXPECT_LE(after.size() - same - sameAtTheEnd, 6u);
  EXPECT_GT(after.size(), 100u);
}

TEST(Chunker, KeepsItsLimitsAndItsMean) {
  auto chunks = cut(noise(32 << 20, 3));
  uint64_t total = 0;
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_GT(chunks[i].length, MIN_CHUNK_BYTES);
    EXPECT_LE(chunks[i].length, MAX_CHUNK_BYTES);
    total += chunks[i].length;
  }
  uint64_t mean = total / (chunks.size() - 1);
  EXPECT_GT(mean, MEAN_CHUNK_BYTES * 9 / 10);
  EXPECT_LT(mean, MEAN_CHUNK_BYTES * 13 / 10);
}

TEST(Chunker, CutsWhatHasNoVarietyAtTheMaximumOrByItsBytes) {
  std::string zeros(1 << 20, '\0');
  size_t length = chunkLength(zeros);
  EXPECT_EQ(length, lengthByTheRule(zeros));
  EXPECT_EQ(chunkLength(std::string_view(zeros).substr(length)), length);
}

TEST(Chunker, TakesSmallContentWhole) {
  EXPECT_EQ(chunkLength(""), 0u);
  EXPECT_EQ(chunkLength("abc"), 3u);
  std::string least(MIN_CHUNK_BYTES, 'a');
  EXPECT_EQ(chunkLength(least), least.size());
}

TEST(Chunker, DecidesAfterTheLargestChunkWhateverFollows) {
  std::string bytes = noise(1 << 20, 9);
  std::string_view all = bytes;
  while (all.size() > MAX_CHUNK_BYTES) {
    size_t length = chunkLength(all);
    ASSERT_EQ(chunkLength(all.substr(0, MAX_CHUNK_BYTES)), length);
    all.remove_prefix(length);
  }
}

}  // namespace
}  // namespace capstan
