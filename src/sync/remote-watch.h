// What the server tells of changes to the synchroniser's folder: one subscription, made anew after a broken connection,
// and the paths that have to be looked at because of its notices.
#pragma once

#include <map>
#include <vector>

#include <kj/async.h>
#include <kj/refcount.h>

#include <capstan/sync/remote-place.h>

namespace capstan::sync {

// A path that may be another thing than it was.
struct Noticed {
  // What is there, if the server said so; `type` UNSET: nothing. Nobody knows: it has to be asked for.
  std::optional<Entry> entry;
  bool subtree = false;  // everything below it as well
};
using NoticedPaths = ByPath<Noticed>;

// Belongs to one event loop.
class RemoteWatch {
 public:
  // `place` must outlive it.
  explicit RemoteWatch(const RemotePlace& place);
  ~RemoteWatch() noexcept(false);
  KJ_DISALLOW_COPY(RemoteWatch);

  struct CaughtUp {
    bool everything = false;  // nobody knows what has changed: the whole has to be listed
    NoticedPaths paths;
    std::string cursor;  // what changes after this will be noticed; empty: the server does not tell
  };
  // Returns once everything that was changed at the server before this call has been told. `since` is the cursor that
  // was answered the last time, if what was told then has been dealt with; an older one, and all since then is told
  // again; empty: everything. Errors: those of the connection.
  kj::Promise<Result<CaughtUp>> catchUp(std::string since);

  // Ends the subscription; the next catchUp() makes another one.
  void drop();

  // Resolves when something was told, or the subscription has ended, since the last catchUp().
  kj::Promise<void> onChange();

  // What the watcher's own program makes is told like everything else, but need not wake anybody: between these two
  // calls notices wait, and those of `version` at `path` (empty: gone) count for nothing.
  void beginOwnChanges() { ++ownChanges; }
  void endOwnChanges();
  void expectOwn(std::string path, std::string version);

  bool isStanding() const { return link.get() != nullptr; }
  // Whether the server finds out about other programs' changes only now and then.
  bool isSlow() const { return serverPolls; }

 private:
  class Link;
  friend class Link;

  const RemotePlace& place;
  kj::Own<Link> link;  // null: no subscription
  kj::Maybe<schema::Subscription::Client> subscription;
  bool isRefused = false;  // the server does not watch
  bool serverPolls = false;
  NoticedPaths pending;    // told since the last catchUp()
  NoticedPaths handedOut;  // by the last one; dealt with once its cursor comes back
  std::string lastCursor;  // what the last one answered
  bool overflow = false;
  bool wasOverflow = false;  // as handedOut
  bool awake = false;
  unsigned ownChanges = 0;
  std::map<std::string, std::string> own;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waiting;

  kj::Promise<Result<std::string>> subscribe(std::string since);
  kj::Promise<Result<CaughtUp>> flush(std::string since);
  CaughtUp handOut(const std::string& since, std::string cursor);
  void take(capnp::List<schema::Notice>::Reader notices, bool overflowed);
  void takeNotice(schema::Notice::Reader notice);
  void note(std::string_view path, std::optional<Entry> entry, bool subtree);
  bool isOwn(const std::string& path, const Noticed& noticed) const;
  void wakeIfForeign();
  void wake();
  void lost(Link& from);
};

}  // namespace capstan::sync
