// The files that shares are kept in: any bytes give a share or an error that names what is wrong, what is read can be
// written and read again, and nobody's tree is the server's own folder or lies outside the served one.
#include <capstan/base/path.h>
#include <capstan/server/access/share-file.h>

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan;
  std::string text(reinterpret_cast<const char*>(data), size);
  auto share = server::parseShareFile(text);
  if (!share.ok()) {
    FUZZ_CHECK(share.error().code == ErrorCode::CORRUPT);
    for (unsigned char c : share.error().message) FUZZ_CHECK(c >= 0x20 && c != 0x7f);
    return 0;
  }
  FUZZ_CHECK(share->tokenHash.size() == 32 && !share->parent.empty());
  FUZZ_CHECK(validatePath(share->terms.path).ok() && !isReserved(share->terms.path));
  FUZZ_CHECK(share->made >= 0 && share->terms.expires >= 0 && share->revoked >= 0 && share->lastUsed >= 0);
  std::string written = server::format(*share);
  auto again = server::parseShareFile(written);
  FUZZ_CHECK(again.ok() && server::format(*again) == written);
  FUZZ_CHECK(again->terms.path == share->terms.path && again->terms.label == share->terms.label);
  FUZZ_CHECK(again->terms.rights == share->terms.rights && again->tokenHash == share->tokenHash);
  return 0;
}
