// The text of one share's file in .capstan/shares/: pure functions. The file's name is the share's id.
//
//   capstan-share 1
//   token-sha256 <64 hex digits>
//   parent <id>
//   path <escaped as a terminal shows it>
//   rights read write compute
//   made <nanoseconds since the epoch>
//   expires <nanoseconds since the epoch, or 0>
//   uses <number, or 0>
//   used <number>
//   last-used <nanoseconds since the epoch, or 0>
//   quota <bytes, or 0>
//   revoked <nanoseconds since the epoch, or 0>
//   label <escaped>
//   end
//
// Lines with names that this version does not know are ignored; a file without its last line was cut off.
#pragma once

#include <string>
#include <string_view>

#include <capstan/base/error.h>
#include <capstan/server/access/grant.h>

namespace capstan::server {

struct ShareFile {
  std::string tokenHash;  // 32 bytes
  std::string parent;
  ShareTerms terms;
  int64_t made = 0;
  uint64_t used = 0;     // logins
  int64_t lastUsed = 0;  // 0: never
  int64_t revoked = 0;   // when; 0: it is not
};

std::string format(const ShareFile& share);
// Errors: corrupt, with a sentence that names the line. Total: any bytes give a share or an error.
Result<ShareFile> parseShareFile(std::string_view text);

}  // namespace capstan::server
