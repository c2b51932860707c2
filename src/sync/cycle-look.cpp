// The first half of a cycle: what is there on both sides, whether that can be trusted, and what has to be read to judge
// it.
#include <algorithm>

#include <kj/debug.h>

#include <capstan/base/path.h>
#include <capstan/sync/cycle-impl.h>

namespace capstan::sync {

namespace {

// Below this size a copy at the other side gains nothing over sending the content.
constexpr uint64_t WORTH_COPYING = 16 << 10;

std::string sideName(Side side) { return side == Side::LOCAL ? "the local folder" : "the folder at the server"; }

// Whether it is in one of these folders, not one of them.
template <typename Folders>
bool isBelow(const Folders& folders, std::string_view path) {
  if (folders.empty()) return false;
  while (!path.empty()) {
    path = parentOf(path);
    if (folders.find(path) != folders.end()) return true;
  }
  return false;
}

bool isMissing(const Error& error) {
  return error.code == ErrorCode::NOT_FOUND || error.code == ErrorCode::NOT_DIRECTORY;
}

SafetyStop missingRoot(Side side, const Error* error) {
  SafetyStop stop;
  stop.sentence = sideName(side) + " is not there" + (error == nullptr ? "" : " (" + error->message + ")") +
                  ", although it was at the last run; nothing was changed. If it is really gone, make an empty one, " +
                  "and the next run tells what to do";
  return stop;
}

}  // namespace

kj::Promise<bool> Cycle::Impl::look(bool whole) {
  whole = readRulesAgain() || whole;
  Replica::LookOptions options;
  options.whole = whole;
  options.checkContent = this->options.checkContent;
  auto again = [this](Side side) {
    auto& paths = unreadable[indexOf(side)];
    return std::vector<std::string>(paths.begin(), paths.end());
  };
  options.again = again(Side::LOCAL);
  auto localLook = local.look(state, ignore, options);
  options.again = again(Side::REMOTE);
  if (!whole) options.cursor = state.get("cursor");
  auto remoteLook = remote.look(state, ignore, options).eagerlyEvaluate(nullptr);
  return localLook.then([this, whole, remoteLook = kj::mv(remoteLook)](Result<Replica::Look> localSide) mutable {
    return remoteLook.then([this, whole, localSide = std::move(localSide)](Result<Replica::Look> remoteSide) mutable {
      return judgeLooks(std::move(localSide), std::move(remoteSide), whole);
    });
  });
}

kj::Promise<bool> Cycle::Impl::judgeLooks(Result<Replica::Look> localSide, Result<Replica::Look> remoteSide,
                                          bool whole) {
  for (Side side : {Side::LOCAL, Side::REMOTE}) {
    auto& result = side == Side::LOCAL ? localSide : remoteSide;
    if (result.ok()) {
      pass->on(side) = std::move(*result);
      continue;
    }
    pass->failed = true;
    if (isMissing(result.error()) && knowsSomething())
      pass->report.stop = missingRoot(side, &result.error());
    else if (!pass->report.error)
      pass->report.error = result.error();
  }
  noteRules();
  if (rulesAreUnreadable()) return false;
  if (pass->failed) {
    // What the side that could be looked at has told is not told again.
    keepForLater(pass->local.changes);
    keepForLater(pass->remote.changes);
    noteUnreadable();
    if (whole) wholeNext = true;
    if (pass->report.stop) phase = ServiceStatus::Phase::HALTED;
    return false;
  }
  bool lookAgain = false;
  if (!judgeRoots(whole, lookAgain)) return false;
  if (!judgeRules(lookAgain)) return false;
  if (lookAgain && !pass->lookedAgain) {
    pass->lookedAgain = true;
    return look(true);
  }
  return lookAtAgain().then([this]() { return !rulesAreUnreadable(); });
}

// Without the rules of some folder, what they keep away would be taken for something new.
bool Cycle::Impl::rulesAreUnreadable() {
  auto trouble = ignore.takeTrouble();
  if (!trouble) return false;
  if (!pass->report.error) pass->report.error = std::move(trouble);
  pass->failed = wholeNext = true;
  return true;
}

// Whether the folders are the ones of the last run; false: the cycle ends here.
bool Cycle::Impl::judgeRoots(bool whole, bool& lookAgain) {
  for (Side side : {Side::LOCAL, Side::REMOTE}) {
    auto& now = pass->on(side);
    bool isTarget = side == (options.mode == Mode::PUSH ? Side::REMOTE : Side::LOCAL) && options.mode != Mode::TWO_WAY;
    if (!now.rootExists && !knowsSomething() && side == Side::LOCAL && !isTarget) {
      pass->report.error = Error{ErrorCode::NOT_FOUND, "the local folder is not there", {}};
    } else if (!now.rootExists && state.count() > 0) {
      // A server's folder that is gone is filled again by a push; whatever else is missing may be not mounted.
      if (side == Side::REMOTE && isTarget)
        addAllAsGone(side);
      else
        pass->report.stop = missingRoot(side, nullptr);
    }
    if (pass->report.error || pass->report.stop) {
      pass->failed = true;
      wholeNext = true;
      if (pass->report.stop) phase = ServiceStatus::Phase::HALTED;
      return false;
    }
    auto known = state.get(side == Side::LOCAL ? "local-root" : "remote-root");
    bool replaced = now.rootExists && !known.empty() && !now.root.empty() && now.root != known;
    (side == Side::LOCAL ? pass->localRootReplaced : pass->remoteRootReplaced) = replaced;
    if (replaced && !(whole || now.whole)) lookAgain = true;
  }
  return true;
}

void Cycle::Impl::addAllAsGone(Side side) {
  auto reader = state.read();
  if (!reader.ok()) return;
  for (auto more = (*reader)->next(); more.ok() && *more; more = (*reader)->next())
    pass->on(side).changes.emplace((*reader)->path(), std::nullopt);
}

// Rules that were being changed while they were read are read again before each look, until they have come to rest.
// Whether they are others now.
bool Cycle::Impl::readRulesAgain() {
  if (unsureRules.empty()) return false;
  auto before = ignore.fingerprint();
  for (auto& folder : unsureRules) ignore.forget(folder);
  return ignore.fingerprint() != before;
}

void Cycle::Impl::noteRules() {
  for (auto* changes : {&pass->local.changes, &pass->remote.changes})
    for (auto& [path, node] : *changes)
      if (baseNameOf(path) == IGNORE_FILE) unsureRules.insert(std::string(parentOf(path)));
  // Rules that were read, but not agreed upon: nothing would tell that they are gone.
  for (auto& folder : ignore.foldersWithRules())
    if (!state.find(joinPath(folder, IGNORE_FILE))) unsureRules.insert(folder);
}

// Whether what is ignored is what was ignored at the last run. Otherwise everything is looked at with the new rules,
// and what appears by them is nobody's doing. False: the state could not be written.
bool Cycle::Impl::judgeRules(bool& lookAgain) {
  auto isRules = [](auto& change) { return baseNameOf(change.first) == IGNORE_FILE; };
  auto& changes = pass->local.changes;
  bool touched = !pass->lookedAgain && std::any_of(changes.begin(), changes.end(), isRules);
  bool wholly = pass->local.whole && pass->remote.whole;
  bool others = knowsSomething() && ignore.fingerprint() != state.get("ignore-rules");
  if (others) pass->otherRules = true;
  if (touched || (others && !wholly)) lookAgain = true;
  if ((!others && !touched) || (lookAgain && !pass->lookedAgain) || pass->request.dryRun) return true;
  forgetIgnored();
  if (!pass->broken) return true;
  pass->report.error = pass->broken;
  pass->failed = wholeNext = true;
  return false;
}

// A path that is ignored now is none of the synchroniser's business any more, on both sides.
void Cycle::Impl::forgetIgnored() {
  std::vector<StateChange> changes;
  auto reader = state.read();
  if (!reader.ok()) {
    pass->broken = reader.error();
    return;
  }
  for (auto more = (*reader)->next(); more.ok() && *more; more = (*reader)->next()) {
    bool isFolder = (*reader)->agreed().local.type == EntryType::DIRECTORY;
    if (!ignore.isIgnored((*reader)->path(), isFolder)) continue;
    StateChange change;
    change.kind = StateChange::Kind::ERASE;
    change.path = (*reader)->path();
    changes.push_back(std::move(change));
  }
  if (changes.empty()) return;
  // Until a cycle is complete with these rules, every other one has to look at everything.
  auto status = state.set("ignore-rules", "changing");
  if (status.ok()) status = state.apply(changes);
  if (!status.ok()) pass->broken = status.error();
}

void Cycle::Impl::keepForLater(const Changes& changes) {
  for (auto& [path, node] : changes) again.insert(path);
  if (mayGoOneByOne(again)) return;
  again.clear();
  wholeNext = true;
}

// Takes up what earlier cycles have left, where this one's looks did not go there anyway.
kj::Promise<void> Cycle::Impl::lookAtAgain() {
  if (pass->local.whole && pass->remote.whole) return kj::READY_NOW;
  auto asked = kj::Vector<kj::Promise<void>>();
  for (auto& path : again) {
    if (isBelow(pass->local.unread, path) || isBelow(pass->remote.unread, path)) {
      pass->unread.insert(path);
      continue;
    }
    for (Side side : {Side::LOCAL, Side::REMOTE}) {
      if (pass->on(side).whole || pass->on(side).changes.find(path) != pass->on(side).changes.end()) continue;
      asked.add(on(side).stat(path).then([this, side, path](Result<std::optional<Node>> now) {
        bool nothing = !now.ok() && isMissing(now.error());
        if (now.ok() || nothing) return mergeOne(side, path, nothing ? std::nullopt : *now);
        takeUnread(side, path, now.error());
      }));
    }
  }
  return kj::joinPromises(asked.releaseAsArray());
}

// A path of which nobody could tell what is there: it cannot be judged, and as long as that lasts, each cycle says so.
void Cycle::Impl::takeUnread(Side side, const std::string& path, Error error) {
  pass->unread.insert(path);
  if (error.code == ErrorCode::DENIED) {
    // The folder that it is in may not be looked into.
    pass->on(side).unread.emplace(parentOf(path), std::move(error));
  } else if (error.code == ErrorCode::IO) {
    pass->report.failures.push_back({path, std::move(error)});
  } else {
    ++pass->report.deferred;
  }
}

// Takes out what is in folders that could not be looked into, whatever the other side has there: it can neither be
// compared nor brought over. The same for folders of which one has moved to where it cannot be looked into, else what
// was in it would seem to be gone.
void Cycle::Impl::leaveUnread() {
  std::set<uint64_t> identities[2];
  auto note = [&](Side side, const std::optional<Node>& node) {
    bool isFolder = node && node->type == EntryType::DIRECTORY && node->identity != 0;
    if (isFolder) identities[indexOf(side)].insert(node->identity);
  };
  auto isThere = [&](Side side, const std::optional<Node>& node) {
    bool isFolder = node && node->type == EntryType::DIRECTORY;
    return isFolder && identities[indexOf(side)].count(node->identity) > 0;
  };
  for (Side side : {Side::LOCAL, Side::REMOTE}) {
    for (auto& [path, error] : pass->on(side).unread) {
      pass->unknown.insert(path);
      auto agreed = state.find(path);
      for (Side each : {Side::LOCAL, Side::REMOTE}) {
        auto& changes = pass->on(each).changes;
        if (auto found = changes.find(path); found != changes.end()) note(each, found->second);
        if (agreed) note(each, agreed->on(each));
      }
    }
  }
  if (pass->unknown.empty()) return;
  for (auto& difference : pass->differences) {
    for (Side side : {Side::LOCAL, Side::REMOTE}) {
      bool isOne = isThere(side, difference.on(side)) ||
                   (difference.agreed && isThere(side, std::optional<Node>(difference.agreed->on(side))));
      if (isOne) pass->unknown.insert(difference.path);
    }
  }
  std::erase_if(pass->differences, [this](const Difference& difference) {
    if (!isBelow(pass->unknown, difference.path)) return false;
    pass->unread.insert(difference.path);
    return true;
  });
}

void Cycle::Impl::mergeOne(Side side, const std::string& path, const std::optional<Node>& now) {
  if (ignore.isIgnored(path, now && now->type == EntryType::DIRECTORY)) return;
  auto& changes = pass->on(side).changes;
  auto agreed = state.find(path);
  if (now ? !agreed || !isAsAgreed(*now, agreed->on(side)) : agreed.has_value()) changes.emplace(path, now);
  bool wasFolder = agreed && agreed->on(side).type == EntryType::DIRECTORY;
  if (!wasFolder || (now && now->type == EntryType::DIRECTORY)) return;
  auto reader = state.read(path);
  if (!reader.ok()) return;
  for (auto more = (*reader)->next(); more.ok() && *more; more = (*reader)->next())
    changes.emplace((*reader)->path(), std::nullopt);
}

// Contents that have to be known before planning: to tell whether both sides have the same, and to find files that can
// be copied where they are needed.
kj::Promise<void> Cycle::Impl::readDigests() {
  auto wanted = digestsWanted(pass->differences, planOptions());
  for (auto& difference : pass->differences) {
    for (Side side : {Side::LOCAL, Side::REMOTE}) {
      auto& node = difference.on(side);
      bool mayTravel =
          options.mode == Mode::TWO_WAY || side == (options.mode == Mode::PUSH ? Side::LOCAL : Side::REMOTE);
      if (!mayTravel || !difference.changedOn(side) || !node || difference.on(other(side))) continue;
      if (node->type != EntryType::FILE || !node->digest.empty() || node->size < WORTH_COPYING) continue;
      if (state.hasSize(node->size)) (side == Side::LOCAL ? wanted.local : wanted.remote).push_back(difference.path);
    }
  }
  auto first = readDigestsOf(Side::LOCAL, std::move(wanted.local)).eagerlyEvaluate(nullptr);
  return readDigestsOf(Side::REMOTE, std::move(wanted.remote)).then([first = kj::mv(first)]() mutable {
    return kj::mv(first);
  });
}

kj::Promise<void> Cycle::Impl::readDigestsOf(Side side, std::vector<std::string> paths) {
  if (paths.empty()) return kj::READY_NOW;
  return on(side).digests(paths).then([this, side, paths](std::vector<Result<std::string>> digests) {
    KJ_ASSERT(digests.size() == paths.size());
    ByPath<const Result<std::string>*> found;
    for (size_t i = 0; i < paths.size(); ++i) found.emplace(paths[i], &digests[i]);
    std::vector<Difference> rest;
    for (auto& difference : pass->differences) {
      auto digest = found.find(difference.path);
      if (digest != found.end() && !digest->second->ok()) {
        // It cannot be judged now: it is being written, or cannot be read. The next cycle tries again.
        auto& error = digest->second->error();
        pass->unread.insert(difference.path);
        if (error.code == ErrorCode::DENIED || error.code == ErrorCode::IO)
          pass->report.failures.push_back({difference.path, error});
        else
          ++pass->report.deferred;
        continue;
      }
      auto& node = side == Side::LOCAL ? difference.local : difference.remote;
      if (digest != found.end() && node) node->digest = **digest->second;
      rest.push_back(std::move(difference));
    }
    pass->differences = std::move(rest);
  });
}

}  // namespace capstan::sync
