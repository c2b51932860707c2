#include <capstan/base/chunker.h>

#include <algorithm>
#include <array>

#include <xxhash.h>

namespace capstan {

namespace {

constexpr uint64_t GEAR_SEED = 0x43617073746170ff;         // schema/files.capnp, chunkGearSeed
constexpr uint64_t MASK_BEFORE_MEAN = 0xFFFF800000000000;  // 17 bits
constexpr uint64_t MASK_AFTER_MEAN = 0xFFF8000000000000;   // 13 bits

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
constexpr std::array<uint64_t, 256> makeGear() {
  std::array<uint64_t, 256> gear{};
  uint64_t state = GEAR_SEED;
  for (uint64_t& entry : gear) {
    state += 0x9E3779B97F4A7C15;
    uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    entry = mixed ^ (mixed >> 31);
  }
  return gear;
}

constexpr std::array<uint64_t, 256> GEAR = makeGear();

// Goes on hashing from `at` to `end`; the position after the byte that makes a cut, or 0 if none does.
template <uint64_t MASK>
size_t findCut(const uint8_t* bytes, size_t at, size_t end, uint64_t& hash) {
  uint64_t rolling = hash;
  // Four bytes at a time: the loop's own work is a good part of the whole.
  for (; at + 4 <= end; at += 4) {
    for (size_t i = 0; i < 4; ++i) {
      rolling = rolling * 2 + GEAR[bytes[at + i]];
      if ((rolling & MASK) == 0) return at + i + 1;
    }
  }
  for (; at < end; ++at) {
    rolling = rolling * 2 + GEAR[bytes[at]];
    if ((rolling & MASK) == 0) return at + 1;
  }
  hash = rolling;
  return 0;
}

}  // namespace

size_t chunkLength(std::string_view bytes) {
  if (bytes.size() <= MIN_CHUNK_BYTES) return bytes.size();
  auto data = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t most = std::min<size_t>(bytes.size(), MAX_CHUNK_BYTES);
  size_t mean = std::min<size_t>(most, MEAN_CHUNK_BYTES);
  uint64_t hash = 0;
  if (size_t cut = findCut<MASK_BEFORE_MEAN>(data, MIN_CHUNK_BYTES, mean, hash)) return cut;
  if (size_t cut = findCut<MASK_AFTER_MEAN>(data, mean, most, hash)) return cut;
  return most;
}

Chunk chunkOf(std::string_view bytes) {
  XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {uint32_t(bytes.size()), hash.high64, hash.low64};
}

}  // namespace capstan
