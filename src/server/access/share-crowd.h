// How many shares there may be under one grant: of those that are live, and of those that have ended and are
// remembered, which whoever makes and ends them again and again would else fill the disk with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/access/grant.h>

namespace capstan::server {

struct CountedShare {
  const Grant* grant;
  int64_t end;  // when it ended, nanoseconds since the epoch; 0: it is live
};

// Whether one more can be made from `parent`, with at most `limit` live ones, and twice as many in all, under it and
// under each grant that it was made from. Answers the ids of those that have to be forgotten before: the ones that
// ended first, with what was made from them, each before the one it was made from. Error: limit.
Result<std::vector<std::string>> makeRoomUnder(const Grant& parent, const std::vector<CountedShare>& all,
                                               uint32_t limit);

}  // namespace capstan::server
