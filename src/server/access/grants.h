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

inline constexpr size_t MAX_SHARE_LABEL = 100;                                   // characters
inline constexpr uint64_t ENDED_SHARE_TIME = 30ull * 24 * 3600 * 1'000'000'000;  // nanoseconds; see Grants.list

// Thread-safe. Methods block (on the disk) where it is said.
class Grants {
 public:
  struct Options {
    int stateFolder;  // descriptor of .capstan; needed by open() only
    // Made from one grant, directly or not, and not ended. Of those that have, so many are remembered that there are
    // twice as many in all: the ones that ended first are forgotten.
    uint32_t sharesLimit = 1000;
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
  // Why nobody gets in with it, as far as is known: it has ended, or it or a share that it was made from is used up. In
  // memory.
  virtual std::optional<Error> refusal(const Grant& grant) const = 0;
  // Counts a login: of the uses of the grant and of all that it was made from, durably, before it succeeds (`expired`:
  // they are used up, by the label of the one whose are), and as the last use. Errors: revoked, expired, overloaded,
  // noSpace, io. Blocks only if there are limited uses.
  virtual Status use(const Grant& grant) = 0;
  virtual bool mustCount(const Grant& grant) const = 0;  // use() would block

  struct Made {
    std::shared_ptr<Grant> grant;
    std::string token;  // 32 bytes; nowhere else
  };
  // Durable when it returns. Errors: limit, overloaded, noSpace, io, revoked and expired (the parent). Blocks.
  virtual Result<Made> make(const std::shared_ptr<Grant>& parent, ShareTerms terms) = 0;

  struct Info {
    std::shared_ptr<const Grant> grant;
    uint64_t used = 0;      // logins
    int64_t lastUsed = 0;   // nanoseconds since the epoch, to the minute
    bool isUsedUp = false;  // or a share is that it was made from
  };
  // Those made from `top`, directly or not, each behind the one it was made from, else the oldest first. In memory.
  virtual std::vector<Info> list(const Grant& top) const = 0;
  virtual Info infoOf(const Grant& grant) const = 0;

  // Ends a grant that is `top` or was made from it, and all made from it, in memory: at once. Whoever calls it cuts
  // what is in flight, and stores the end. Errors: notFound, invalidArgument (the owner's).
  struct Ended {
    // Also those that had ended before: whoever ended them may not have cut them yet.
    std::vector<std::shared_ptr<Grant>> grants;
    uint32_t live = 0;  // of these, before
  };
  virtual Result<Ended> end(const Grant& top, const std::string& id) = 0;
  // Makes the end of a grant durable, which refresh() tries again if it fails, or if nobody calls this. Errors:
  // overloaded, noSpace, io. Blocks.
  virtual Status storeEnd(const std::string& id) = 0;

  // Looks whether another server of the folder has made, revoked or used any; answers those that were revoked since it
  // was called for the last time, by whatever it was noticed. One whose file was removed or damaged has been revoked
  // too. To be called every second. Blocks for a look at one folder's time, seldom longer.
  virtual std::vector<std::shared_ptr<Grant>> refresh() = 0;
  // Writes last uses that are not written yet, and removes files of what ended long ago. Blocks.
  virtual void tidy() = 0;
};

}  // namespace capstan::server
