// Hashing of content: XXH3-128 to notice accidents, SHA-256 for identity. Incremental; a Hasher belongs to one thread
// at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace capstan {

enum class DigestAlgorithm : uint16_t { UNSET, XXH3, SHA256 };  // the numbers of DigestAlgorithm in schema/files.capnp

class Hasher {
 public:
  // Precondition: not UNSET.
  explicit Hasher(DigestAlgorithm algorithm);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void update(std::string_view bytes);
  // As many zero bytes, for holes.
  void updateZeros(uint64_t count);
  // The digest of all bytes so far: 16 bytes (canonical, big-endian) or 32. More may be added afterwards.
  std::string digest() const;

  DigestAlgorithm algorithm() const;

 private:
  struct State;
  std::unique_ptr<State> state;
};

// In one call.
std::string digestOf(DigestAlgorithm algorithm, std::string_view bytes);

// "xxh3" or "sha256", and back (UNSET if it is neither).
std::string_view nameOf(DigestAlgorithm algorithm);
DigestAlgorithm digestAlgorithmByName(std::string_view name);

// Cryptographically random bytes. Throws kj::Exception if the system has none to give.
std::string randomBytes(size_t count);
// What a token is, the owner's or a share's: so many of them.
inline constexpr size_t TOKEN_BYTES = 32;

// Compares secrets in a time that depends on their length only.
bool equalInConstantTime(std::string_view a, std::string_view b);

}  // namespace capstan
