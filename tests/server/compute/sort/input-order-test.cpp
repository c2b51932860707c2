// That lines keep the order of the input however threads take turns at them: `unique` keeps the first of equal ones,
// and of several bad lines the first one is named.
#include <capstan/server/compute/sort/line-reader.h>

#include <string>
#include <vector>

#include "sorting.h"

namespace capstan::server::compute {
namespace {

class InputOrderTest : public SortingTest {};

// Chunks of a few lines each, and what they are in.
struct Taken {
  std::string bytes;
  Lines lines;
};

Taken take(LineReader& reader) {
  Taken taken;
  taken.bytes.resize(reader.room());
  taken.lines = reader.next(taken.bytes.data()).value();
  return taken;
}

std::string numbers(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += std::to_string(1'000'000 + i) + "\n";
  return text;
}

TEST_F(InputOrderTest, WhatIsPutBackComesAgainInTheOrderOfTheInput) {
  const std::string input = numbers(64);
  for (bool turnedRound : {false, true}) {
    StringSource source(input, ElementType::INT);
    LineReader reader(source, work, 64, 1000);
    std::vector<Taken> chunks;
    for (size_t i = 0; i < 4; ++i) chunks.push_back(take(reader));
    for (size_t i = 1; i < 4; ++i) reader.putBack(chunks[turnedRound ? 4 - i : i].lines);
    std::string all(chunks[0].lines.begin, chunks[0].lines.end);
    // What was put back once may be put back again, before what is still there.
    Taken again = take(reader);
    reader.putBack(again.lines);
    uint64_t number = chunks[1].lines.firstNumber;
    while (!reader.atEnd()) {
      Taken next = take(reader);
      EXPECT_EQ(next.lines.firstNumber, number);
      number += next.lines.count;
      all.append(next.lines.begin, next.lines.end);
    }
    EXPECT_EQ(all, input);
  }
}

// Ints of six digits, as formatInt() writes them, of which a run of so little memory takes a whole number of chunks
// (with the radix kernel half as many): then one more is taken, which has no room, while others look at those before
// it. That depends on the moment; so there are many rounds.
class FullRunTest : public InputOrderTest {
 protected:
  static constexpr size_t ROUNDS = SANITIZED ? 5 : 15;
  static constexpr size_t LINE = 7;
  static constexpr size_t SCALE = 8;  // the larger a chunk, the longer is it looked at
  static constexpr size_t CHUNK = SCALE * 2048 * LINE;
  static constexpr size_t CHUNKS = 56;
  SortOptions options;

  void SetUp() override {
    InputOrderTest::SetUp();
    options.type = ElementType::INT;
    options.memory = SCALE * LEAST_SORT_MEMORY;
  }
  // `odd` is the last line of its chunk, the `count`th one of the input, and `after` follows in the next one.
  static std::string input(size_t count, const std::string& odd, const std::string& after) {
    std::string text;
    for (size_t i = 0; i < (CHUNKS + 8) * CHUNK / LINE; ++i) text += std::to_string(100'000 + i % 899'990) + "\n";
    text.replace(count * CHUNK - LINE, LINE, odd + "\n");
    text.replace(count * CHUNK + 10 * LINE, LINE, after + "\n");
    return text;
  }
};

TEST_F(FullRunTest, UniqueKeepsTheFirstLineWhereARunIsFull) {
  for (size_t count : {CHUNKS / 2, CHUNKS}) {
    const std::string text = input(count, "099999", "99999");
    options.unique = true;
    const std::string expected = gnuSorted(text, "-n -u");
    ASSERT_TRUE(expected.starts_with("099999\n"));
    for (size_t round = 0; round < ROUNDS; ++round) {
      ASSERT_TRUE(sameBytes(sorted(text, ElementType::INT, options, 2 + round % 15), expected))
          << "chunk " << count << ", round " << round;
    }
  }
}

TEST_F(FullRunTest, TheFirstBadLineIsNamedWhereARunIsFull) {
  for (size_t count : {CHUNKS / 2, CHUNKS}) {
    const std::string text = input(count, "first!", "second");
    const std::string line = std::to_string(count * CHUNK / LINE);
    for (size_t round = 0; round < ROUNDS; ++round) {
      ASSERT_EQ(sorted(text, ElementType::INT, options, 2 + round % 15),
                "error: line " + line + " is not an integer: \"first!\"");
    }
  }
}

}  // namespace
}  // namespace capstan::server::compute
