#include "simulation.h"

#include <algorithm>

#include <kj/debug.h>

namespace capstan::sync::sim {

Simulation::Simulation(uint64_t seed) : chance(seed), waitScope(loop) {
  constexpr Mode ALONE[] = {Mode::PUSH, Mode::PULL, Mode::TWO_WAY, Mode::TWO_WAY};
  constexpr Mode PAIRS[][2] = {{Mode::TWO_WAY, Mode::TWO_WAY}, {Mode::PUSH, Mode::PULL}, {Mode::TWO_WAY, Mode::PULL}};
  if (chance.oneIn(3)) {
    auto& pair = PAIRS[chance.below(3)];
    clients.push_back(std::make_unique<Client>(pair[0], "first"));
    clients.push_back(std::make_unique<Client>(pair[1], "second"));
  } else {
    clients.push_back(std::make_unique<Client>(ALONE[chance.below(4)], "first"));
  }
  for (auto& client : clients) {
    twoWayOnly = twoWayOnly && client->mode == Mode::TWO_WAY;
    client->state = State::inMemory();
    restart(*client);
  }
}

Simulation::~Simulation() noexcept(false) {
  for (auto& client : clients) client->running = nullptr;
}

kj::Promise<void> Simulation::pause() {
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

void Simulation::note(const std::string& line) {
  life.trace += line + "\n";
  bool isHarmful = line == "cut" || line.ends_with(" is not mounted") || line.starts_with("user changes rules");
  if (isHarmful) mayHaveForgotten = true;
  if (line.ends_with(": not empty")) someLeftAlone = true;
}

void Simulation::complain(const std::string& line) {
  note("COMPLAINT: " + line);
  life.complaints.push_back(line);
}

// The synchroniser's process begins anew: only disk, server and state are what they were.
void Simulation::restart(Client& client) {
  client.running = nullptr;
  client.cycle = nullptr;
  client.localSide = std::make_unique<FakeReplica>(*this, client.local, Side::LOCAL);
  client.remoteSide = std::make_unique<FakeReplica>(*this, server, Side::REMOTE);
  client.ignore = rulesOf(client.local);
  CycleOptions options;
  options.mode = client.mode;
  options.acceptDeletes = client.acceptDeletes;
  options.host = client.local.name;
  options.now = [this]() { return time(); };
  options.random = [this](size_t count) {
    std::string bytes;
    while (bytes.size() < count) bytes.push_back(static_cast<char>(chance.below(256)));
    return bytes;
  };
  options.operationsAtOnce = 1 + chance.below(6);
  client.cycle = std::make_unique<Cycle>(*client.localSide, *client.remoteSide, *client.state, *client.ignore,
                                         std::move(options), OnEvent());
}

void Simulation::begin(Client& client, Cycle::Request request) {
  ++life.cycles;
  client.report.reset();
  bool sure = client.local.mounted && server.mounted;
  client.localSide->mayRemove = client.remoteSide->mayRemove = sure;
  client.localSide->mayNotRemove = server.unreadable;
  client.remoteSide->mayNotRemove = client.local.unreadable;
  note("cycle of " + client.local.name);
  client.running = client.cycle->run(request)
                       .then([this, &client](CycleReport report) {
                         note(client.local.name + ": " + report.summary());
                         if (report.error && report.error->message.find("the cycle failed") != std::string::npos)
                           complain(report.error->message);
                         someLeftAlone = someLeftAlone || !report.withheld.empty();
                         client.report = std::move(report);
                       })
                       .eagerlyEvaluate([this](kj::Exception&& exception) { complain(kj::str(exception).cStr()); });
}

// Lets what is under way go on, in an order of its own, until all cycles have ended.
void Simulation::drive() {
  for (;;) {
    waitScope.poll();
    std::erase_if(waiting, [](auto& fulfiller) { return !fulfiller->isWaiting(); });
    if (waiting.empty()) break;
    if (noisy && chance.oneIn(8)) edit(chance.oneIn(2) ? server : clients[chance.below(clients.size())]->local);
    if (noisy && chance.oneIn(10)) server.advance();
    if (noisy && chance.oneIn(10)) server.notice();
    if (noisy && chance.oneIn(150)) {
      auto& client = *clients[chance.below(clients.size())];
      note("kill of " + client.local.name);
      mayHaveForgotten = true;
      restart(client);
      continue;
    }
    size_t index = chance.below(waiting.size());
    auto fulfiller = kj::mv(waiting[index]);
    waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(index));
    fulfiller->fulfill();
  }
  for (auto& client : clients) client->running = nullptr;
}

void Simulation::trouble() {
  auto& client = *clients[chance.below(clients.size())];
  auto& disk = chance.oneIn(3) ? server : client.local;
  switch (chance.below(10)) {
    case 0:
      disk.mounted = !disk.mounted;
      disk.exists = chance.oneIn(2);
      note(disk.name + (disk.mounted ? " is mounted" : " is not mounted"));
      break;
    case 1: disk.full = !disk.full; break;
    case 2: {
      auto path = pickExisting(disk);
      auto item = disk.find(path);
      bool isFolder = item != nullptr && item->node.type == EntryType::DIRECTORY;
      disk.unreadable = disk.unreadable.empty() && isFolder ? path : "";
      note(disk.name + " cannot read " + disk.unreadable);
      break;
    }
    case 3:
      if (!chance.oneIn(3)) break;
      note("the state of " + client.local.name + " is lost");
      client.running = nullptr;
      client.cycle = nullptr;
      client.state = State::inMemory();
      stateWasLost = true;
      restart(client);
      break;
    case 4:
      note("the server starts again");
      server.restart();
      break;
    case 5: userChangesRules(); break;
    case 6: restart(client); break;
    default: break;
  }
}

void Simulation::noisyPhase() {
  size_t rounds = 3 + chance.below(12);
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t edits = chance.below(6); edits > 0; --edits) {
      edit(chance.oneIn(2) ? server : clients[chance.below(clients.size())]->local);
      if (chance.oneIn(2)) server.notice();
    }
    if (chance.oneIn(2)) trouble();
    if (chance.oneIn(2)) server.advance();
    for (auto& client : clients) {
      if (chance.oneIn(2)) client->local.advance();
      if (chance.oneIn(4)) continue;
      begin(*client, {chance.oneIn(6), chance.oneIn(12)});
    }
    drive();
  }
}

void Simulation::quietCycle(Client& client, bool whole) {
  begin(client, {whole, false});
  drive();
  if (client.report && client.report->stop && client.report->stop->deletions > 0) {
    client.acceptDeletes = client.report->stop->deletions;
    restart(client);
    client.acceptDeletes.reset();
  }
}

// After edits have stopped and everything works again; whether all came to rest.
bool Simulation::quietPhase() {
  noisy = false;
  server.mounted = true;
  server.full = false;
  server.unreadable.clear();
  for (auto& client : clients) {
    client->local.mounted = true;
    client->local.full = false;
    client->local.unreadable.clear();
  }
  size_t still = 0;
  for (size_t round = 0; round < 200; ++round) {
    server.advance();
    bool active = false;
    for (auto& client : clients) {
      client->local.advance();
      quietCycle(*client, still > 0 || round % 10 == 9);
      if (!client->report) return false;
      if (still > 0 && client->report->didSomething() && !someLeftAlone)
        complain("only a look at everything has found what was left to do");
      active = active || client->report->didSomething() || client->report->error || client->report->stop;
    }
    still = active ? 0 : still + 1;
    if (still == 3) return true;
  }
  return false;
}

Life Simulation::run() {
  for (size_t edits = chance.below(15); edits > 0; --edits)
    edit(chance.oneIn(2) ? server : clients[chance.below(clients.size())]->local);
  noisyPhase();
  note("quiet");
  if (!quietPhase()) complain("it does not come to rest");
  for (auto& client : clients) {
    checkSides(*client);
    if (client->mode == Mode::PUSH && client->localSide->changes > 0) complain("a push has changed the local folder");
    if (client->mode == Mode::PULL && client->remoteSide->changes > 0) complain("a pull has changed the server");
  }
  checkTokens();
  return std::move(life);
}

}  // namespace capstan::sync::sim
