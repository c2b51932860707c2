#include <capstan/rpc/entry-wire.h>

#include <capnp/message.h>
#include <gtest/gtest.h>

namespace capstan::rpc {
namespace {

// What arrives after having been written.
template <typename Schema, typename Value>
auto roundTrip(const Value& value) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<Schema>();
  write(root, value);
  return read(root.asReader());
}

TEST(EntryOnTheWire, ArrivesAsItWas) {
  Entry entry;
  entry.path = std::string("a/\xff\n\0b", 6);
  entry.type = EntryType::SYMLINK;
  entry.size = 0xffffffffffffffff;
  entry.mtime = -1;
  entry.mode = 07777;
  entry.version = std::string("\0\1\2", 3);
  entry.cached = true;
  entry.target = "../b";
  Entry back = roundTrip<schema::Entry>(entry);
  EXPECT_EQ(back.path, entry.path);
  EXPECT_EQ(back.type, entry.type);
  EXPECT_EQ(back.size, entry.size);
  EXPECT_EQ(back.mtime, entry.mtime);
  EXPECT_EQ(back.mode, entry.mode);
  EXPECT_EQ(back.version, entry.version);
  EXPECT_EQ(back.cached, entry.cached);
  EXPECT_EQ(back.target, entry.target);
}

TEST(EntryOnTheWire, OfANewerTypeIsOther) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<schema::Entry>();
  root.setType(static_cast<schema::Entry::Type>(500));
  EXPECT_EQ(read(root.asReader()).type, EntryType::OTHER);
  for (auto type : {EntryType::UNSET, EntryType::FILE, EntryType::DIRECTORY, EntryType::SYMLINK, EntryType::OTHER}) {
    Entry entry;
    entry.type = type;
    EXPECT_EQ(roundTrip<schema::Entry>(entry).type, type);
  }
}

TEST(ExpectationOnTheWire, ArrivesAsItWas) {
  EXPECT_EQ(roundTrip<schema::Expectation>(Expectation{}).kind, Expectation::Kind::ANY);
  EXPECT_EQ(roundTrip<schema::Expectation>(Expectation{Expectation::Kind::ABSENT, {}}).kind, Expectation::Kind::ABSENT);
  Expectation back = roundTrip<schema::Expectation>(Expectation{Expectation::Kind::VERSION, "v1"});
  EXPECT_EQ(back.kind, Expectation::Kind::VERSION);
  EXPECT_EQ(back.version, "v1");
}

// The bytes of a struct's data section, to write what the generated code does not let one write.
template <typename Builder>
kj::ArrayPtr<kj::byte> rawData(Builder root) {
  return capnp::toAny(root).getDataSection();
}

TEST(ExpectationOnTheWire, OfANewerKindNeverHolds) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<schema::Expectation>();
  rawData(root)[0] = 9;  // the union's tag
  Expectation back = read(root.asReader());
  EXPECT_EQ(back.kind, Expectation::Kind::VERSION);
  EXPECT_EQ(back.version, "");
}

TEST(AttributesOnTheWire, ArriveAsTheyWere) {
  auto none = roundTrip<schema::Attributes>(Attributes{});
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->mode || none->mtime);
  auto both = roundTrip<schema::Attributes>(Attributes{0, -5});
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(both->mode, 0u);
  EXPECT_EQ(both->mtime, -5);
}

TEST(AttributesOnTheWire, WithMoreThanPermissionBitsAreRefused) {
  EXPECT_TRUE(roundTrip<schema::Attributes>(Attributes{07777, {}}).ok());
  auto refused = roundTrip<schema::Attributes>(Attributes{010000, {}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::INVALID_ARGUMENT);
}

TEST(AttributesOnTheWire, OfANewerKindAreRefused) {
  // Each byte of the data section in turn: whatever it means, it is understood or refused, never half of it.
  unsigned refused = 0;
  for (size_t at = 0; at < 16; ++at) {
    capnp::MallocMessageBuilder message;
    auto root = message.initRoot<schema::Attributes>();
    ASSERT_GE(rawData(root).size(), 16u);
    rawData(root)[at] = 9;
    refused += !read(root.asReader()).ok();
  }
  EXPECT_GE(refused, 4u);  // both tags, of two bytes each
}

TEST(ContentCheckOnTheWire, ArrivesAsItWas) {
  auto none = roundTrip<schema::ContentCheck>(ContentCheck{});
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->size);
  EXPECT_EQ(none->algorithm, DigestAlgorithm::UNSET);
  auto back = roundTrip<schema::ContentCheck>(ContentCheck{0, DigestAlgorithm::SHA256, std::string(32, 'x')});
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->size, 0u);
  EXPECT_EQ(back->algorithm, DigestAlgorithm::SHA256);
  EXPECT_EQ(back->digest, std::string(32, 'x'));
}

TEST(ContentCheckOnTheWire, WithADigestOfTheWrongLengthOrAlgorithmIsRefused) {
  for (auto [algorithm, right] : {std::pair(DigestAlgorithm::XXH3, 16), std::pair(DigestAlgorithm::SHA256, 32)}) {
    for (int length : {0, 15, 16, 17, 31, 32, 33}) {
      auto check = roundTrip<schema::ContentCheck>(ContentCheck{{}, algorithm, std::string(length, 'x')});
      EXPECT_EQ(check.ok(), length == right) << length;
    }
  }
  auto unknown =
      roundTrip<schema::ContentCheck>(ContentCheck{{}, static_cast<DigestAlgorithm>(7), std::string(32, 'x')});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace capstan::rpc
