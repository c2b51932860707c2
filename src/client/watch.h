// Watching the remote tree: what changes there, by whomever, told as it happens, over broken connections.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::client {

enum class NoticeKind : uint16_t { UNSET, CREATED, CHANGED, REMOVED, MOVED, SUBTREE };  // the numbers of Notice.Kind
std::string_view nameOf(NoticeKind kind);                                               // "created", ...

// What Notice in schema/files.capnp says.
struct Notice {
  NoticeKind kind = NoticeKind::UNSET;
  std::string path;
  std::string from;  // with MOVED
  Entry entry;       // type UNSET: nothing is there
};

struct Notices {
  std::vector<Notice> notices;
  std::string cursor;     // behind them
  bool overflow = false;  // more has changed than is told: list again
};

// How the server notices what other programs change there.
struct WatchMeans {
  std::string method;     // "fanotify", "inotify", "polling"
  uint64_t interval = 0;  // nanoseconds, of what is polled
  bool partly = false;    // some folders are polled
};

struct WatchSettings {
  std::string path;              // what is at or below it
  std::string since;             // a cursor; empty: from now on
  uint64_t minimumInterval = 0;  // nanoseconds between two calls of onNotices
  // Called each time the watching begins: at first, and again on each new connection. `cursor` is where.
  std::function<void(const WatchMeans& means, const std::string& cursor)> onBegin;
  // Called in order. After a broken connection what has changed meanwhile is told too, or `overflow`, if the server
  // does not know it any more.
  std::function<void(Notices&&)> onNotices;
};

class Links;

// Goes on until the promise is dropped; resolves only with an Error: of the first call, or `unreachable` once the time
// for retries has passed.
kj::Promise<Status> watchTree(Links& links, WatchSettings settings);

}  // namespace capstan::client
