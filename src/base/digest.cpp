#include <capstan/base/digest.h>

#include <algorithm>
#include <array>

#include <kj/debug.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <xxhash.h>

namespace capstan {

struct Hasher::State {
  DigestAlgorithm algorithm;
  XXH3_state_t* xxh3 = nullptr;
  EVP_MD_CTX* sha256 = nullptr;

  explicit State(DigestAlgorithm algorithm) : algorithm(algorithm) {
    switch (algorithm) {
      case DigestAlgorithm::XXH3:
        xxh3 = XXH3_createState();
        KJ_ASSERT(xxh3 != nullptr);
        XXH3_128bits_reset(xxh3);
        break;
      case DigestAlgorithm::SHA256:
        sha256 = EVP_MD_CTX_new();
        KJ_ASSERT(sha256 != nullptr && EVP_DigestInit_ex(sha256, EVP_sha256(), nullptr) == 1);
        break;
      default: KJ_FAIL_REQUIRE("no such digest algorithm");
    }
  }
  ~State() {
    XXH3_freeState(xxh3);
    EVP_MD_CTX_free(sha256);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Hasher::Hasher(DigestAlgorithm algorithm) : state(std::make_unique<State>(algorithm)) {}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::string_view bytes) {
  if (bytes.empty()) return;
  if (state->xxh3 != nullptr) {
    XXH3_128bits_update(state->xxh3, bytes.data(), bytes.size());
  } else {
    KJ_ASSERT(EVP_DigestUpdate(state->sha256, bytes.data(), bytes.size()) == 1);
  }
}

void Hasher::updateZeros(uint64_t count) {
  static constexpr std::array<char, 65536> ZEROS{};
  while (count > 0) {
    size_t part = std::min<uint64_t>(count, ZEROS.size());
    update({ZEROS.data(), part});
    count -= part;
  }
}

std::string Hasher::digest() const {
  if (state->xxh3 != nullptr) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state->xxh3));
    return std::string(reinterpret_cast<const char*>(canonical.digest), sizeof(canonical.digest));
  }
  // Finishing would end the context: finish a copy.
  EVP_MD_CTX* copy = EVP_MD_CTX_new();
  std::string result(32, '\0');
  bool finished = copy != nullptr && EVP_MD_CTX_copy_ex(copy, state->sha256) == 1 &&
                  EVP_DigestFinal_ex(copy, reinterpret_cast<unsigned char*>(result.data()), nullptr) == 1;
  EVP_MD_CTX_free(copy);
  KJ_ASSERT(finished);
  return result;
}

DigestAlgorithm Hasher::algorithm() const { return state->algorithm; }

std::string digestOf(DigestAlgorithm algorithm, std::string_view bytes) {
  Hasher hasher(algorithm);
  hasher.update(bytes);
  return hasher.digest();
}

std::string_view nameOf(DigestAlgorithm algorithm) {
  switch (algorithm) {
    case DigestAlgorithm::XXH3: return "xxh3";
    case DigestAlgorithm::SHA256: return "sha256";
    default: return "unset";
  }
}

DigestAlgorithm digestAlgorithmByName(std::string_view name) {
  for (DigestAlgorithm algorithm : {DigestAlgorithm::XXH3, DigestAlgorithm::SHA256}) {
    if (name == nameOf(algorithm)) return algorithm;
  }
  return DigestAlgorithm::UNSET;
}

std::string randomBytes(size_t count) {
  std::string result(count, '\0');
  KJ_REQUIRE(RAND_bytes(reinterpret_cast<unsigned char*>(result.data()), int(count)) == 1,
             "the system has no random bytes to give");
  return result;
}

bool equalInConstantTime(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace capstan
