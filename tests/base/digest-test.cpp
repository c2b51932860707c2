#include <capstan/base/digest.h>

#include <gtest/gtest.h>

#include <capstan/base/text.h>

namespace capstan {
namespace {

TEST(Digest, AgreesWithPublishedValues) {
  EXPECT_EQ(toHex(digestOf(DigestAlgorithm::SHA256, "abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(toHex(digestOf(DigestAlgorithm::XXH3, "")), "99aa06d3014798d86001c324468d497f");
}

TEST(Hasher, GivesTheSameInPartsAndCanGoOnAfterADigest) {
  for (auto algorithm : {DigestAlgorithm::XXH3, DigestAlgorithm::SHA256}) {
    Hasher hasher(algorithm);
    hasher.update("hello, ");
    EXPECT_EQ(hasher.digest(), digestOf(algorithm, "hello, "));
    hasher.update("");
    hasher.update("world");
    EXPECT_EQ(hasher.digest(), digestOf(algorithm, "hello, world"));
  }
}

TEST(Hasher, CountsHolesAsZeros) {
  Hasher hasher(DigestAlgorithm::XXH3);
  hasher.updateZeros(200'000);
  EXPECT_EQ(hasher.digest(), digestOf(DigestAlgorithm::XXH3, std::string(200'000, '\0')));
}

TEST(DigestAlgorithm, HasNames) {
  EXPECT_EQ(digestAlgorithmByName("xxh3"), DigestAlgorithm::XXH3);
  EXPECT_EQ(digestAlgorithmByName("sha256"), DigestAlgorithm::SHA256);
  EXPECT_EQ(digestAlgorithmByName("md5"), DigestAlgorithm::UNSET);
}

TEST(Secrets, DifferAndCompare) {
  std::string a = randomBytes(32), b = randomBytes(32);
  EXPECT_EQ(a.size(), 32u);
  EXPECT_NE(a, b);
  EXPECT_TRUE(equalInConstantTime(a, a));
  EXPECT_FALSE(equalInConstantTime(a, b));
  EXPECT_FALSE(equalInConstantTime(a, a.substr(1)));
}

}  // namespace
}  // namespace capstan
