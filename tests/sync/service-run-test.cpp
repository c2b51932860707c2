// The whole synchroniser against a real server in this process: what becomes of it when it is stopped twice, or when
// its memory is damaged.
#include <capstan/storage/database.h>
#include <capstan/sync/service.h>

#include "remote-fixture.h"

namespace capstan::sync {
namespace {

class ServiceRun : public RemoteTest {
 protected:
  ServiceRun() { std::filesystem::create_directory(here("")); }

  std::string here(const std::string& path) { return serving.base / ("here/" + path); }
  void writeHere(const std::string& path, const std::string& content) {
    std::ofstream(here(path), std::ios::binary) << content;
  }
  kj::Own<Service> newService(Mode mode = Mode::PUSH) {
    ServiceOptions wanted;
    wanted.server.address = *rpc::parseAddress(serving.server->addresses().at(0).toString());
    wanted.server.token = serving.token();
    wanted.local = here("");
    wanted.remote = "sub";
    wanted.mode = mode;
    wanted.stateFolder = serving.base / "states";
    return kj::heap<Service>(serving.io.provider->getNetwork(), serving.io.provider->getTimer(), wanted,
                             [this](const Event& event) { stops += event.kind == Event::Kind::STOPPED; });
  }

  unsigned stops = 0;
};

TEST_F(ServiceRun, StoppedTwiceAtOnceItStopsOnce) {
  writeHere("a", "1");
  auto service = newService();
  auto started = serving.inTime(service->start());
  ASSERT_TRUE(started.ok()) << started.error().message;
  EXPECT_EQ(read("a"), "1");
  auto first = service->stop(), second = service->stop();
  serving.inTime(kj::mv(first));
  serving.inTime(kj::mv(second));
  EXPECT_EQ(stops, 1u);
  serving.inTime(service->stop());
}

TEST_F(ServiceRun, StoppedDuringItsFirstCycleItIsStopped) {
  std::filesystem::remove(serving.base / "here");
  auto service = newService();
  auto started = service->start();
  auto stopped = service->stop();
  serving.inTime(kj::mv(stopped));
  serving.inTime(kj::mv(started).ignoreResult());
  EXPECT_EQ(service->status().phase, ServiceStatus::Phase::STOPPED);
}

TEST_F(ServiceRun, DamageOfItsMemoryIsOvercomeInTheSameRunAndRemovesNothing) {
  for (int i = 0; i < 100; ++i) writeHere("f" + std::to_string(i), "x");
  auto before = serving.inTime(newService()->runOnce());
  ASSERT_FALSE(before.error);
  for (auto& entry : std::filesystem::directory_iterator(std::filesystem::path(serving.base / "states"))) {
    if (entry.path().extension() != ".db") continue;
    auto database = storage::Database::open(entry.path(), {"a state", "test", false});
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE(database->execute("UPDATE entries SET record = x'77' WHERE key = (SELECT max(key) FROM entries)").ok());
  }
  std::filesystem::remove(here("f1"));
  writeHere("new", "1");
  auto service = newService();
  auto report = serving.inTime(service->runOnce());
  EXPECT_FALSE(report.error) << report.error->message;
  EXPECT_EQ(read("new"), "1");
  EXPECT_EQ(read("f1"), "x");
  EXPECT_EQ(report.removed, 0u);
}

}  // namespace
}  // namespace capstan::sync
