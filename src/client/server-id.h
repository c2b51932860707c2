// The ids that servers give to shares and jobs: they are printed, typed and made into names of files, so they are
// looked at before anything is done with one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include <capstan/base/error.h>

namespace capstan::client {

inline constexpr size_t MAX_ID_BYTES = 64;

// Small letters, digits and '-', which is not the first.
inline bool isServerId(std::string_view id) {
  auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  return !id.empty() && id.size() <= MAX_ID_BYTES && id.front() != '-' && std::all_of(id.begin(), id.end(), fits);
}

// `what` is "share" or "job".
inline Error noServerId(std::string_view what) {
  return {ErrorCode::CORRUPT, "the server tells of a " + std::string(what) + " with an id that is none", {}};
}

}  // namespace capstan::client
