// The grants of one served folder: the owner's, and the shares, which are kept in the folder's state folder
// (.capstan/shares/, one file each: share-file.h) so that each server of the folder knows them. What a token opens,
// what was made from what, what has ended.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/server/access/grant.h>

namespace capstan::server {

inline constexpr size_t TOKEN_BYTES = 32;
inline constexpr size_t MAX_SHARE_LABEL = 100;                                   // characters
inline constexpr uint64_t ENDED_SHARE_TIME = 30ull * 24 * 3600 * 1'000'000'000;  // nanoseconds; see Grants.list

// Thread-safe. Methods block (on the disk) where it is said.
class Grants {
 public:
  struct Options {
    int stateFolder;              // descriptor of .capstan; needed by open() only
    uint32_t sharesLimit = 1000;  // made from one grant, directly or not, and not ended
  };
  // Reads what is there; what cannot be read is logged, left where it is, and opens nothing. `ownerHash`: SHA-256 of
  // the owner's token. Blocks.
  static Result<std::shared_ptr<Grants>> open(Options options, std::string ownerHash);
  virtual ~Grants() noexcept(false) = default;

  virtual const std::shared_ptr<Grant>& owner() const = 0;

  // The grant with this id, also one that has ended; null: there is none, or its file was removed. In memory.
  virtual std::shared_ptr<Grant> find(std::string_view id) const = 0;

  // The grant that the token opens, also one that has ended; null: none. At once, in memory; takes the same time for
  // every token that opens nothing.
  virtual std::shared_ptr<Grant> match(std::string_view token) const = 0;
  // Counts a login: of the uses, durably, before it succeeds (`expired`: they are used up), and as the last use.
  // Errors: revoked, expired, noSpace, io. Blocks only if the grant's uses are limited.
  virtual Status use(const Grant& grant) = 0;
  virtual bool mustCount(const Grant& grant) const = 0;  // use() would block

  struct Made {
    std::shared_ptr<Grant> grant;
    std::string token;  // 32 bytes; nowhere else
  };
  // Durable when it returns. Errors: limit, noSpace, io, revoked and expired (the parent). Blocks.
  virtual Result<Made> make(const std::shared_ptr<Grant>& parent, ShareTerms terms) = 0;

  struct Info {
    std::shared_ptr<const Grant> grant;
    uint64_t used = 0;     // logins
    int64_t lastUsed = 0;  // nanoseconds since the epoch, to the minute
  };
  // Those made from `top`, directly or not, each behind the one it was made from, else the oldest first. In memory.
  virtual std::vector<Info> list(const Grant& top) const = 0;
  virtual Info infoOf(const Grant& grant) const = 0;

  // Ends a grant that is `top` or was made from it, and all made from it: marked in memory, then durable. Whoever calls
  // it cuts what is in flight, also if it could not be made durable (noSpace, io). Errors: notFound, invalidArgument
  // (the owner's). Blocks.
  struct Ended {
    std::vector<std::shared_ptr<Grant>> grants;  // those that were live before
    Status stored = okStatus();
  };
  virtual Result<Ended> revoke(const Grant& top, const std::string& id) = 0;

  // Looks whether another server of the folder has made, revoked or used any; answers those that were revoked. One
  // whose file was removed or damaged has been revoked too. To be called every second. Blocks for a look at one
  // folder's time, seldom longer.
  virtual std::vector<std::shared_ptr<Grant>> refresh() = 0;
  // Writes last uses that are not written yet, and removes files of what ended long ago. Blocks.
  virtual void tidy() = 0;
};

}  // namespace capstan::server
