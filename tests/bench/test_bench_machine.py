"""What the kernel's files say, from a made-up machine; meters with known energy."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import pytest

from segdec_edge.bench.energy import CounterMeter, InaMeter, Rapl, ina_rails, open_meter
from segdec_edge.bench.machine import code_of, condition_flags, conditions, machine_of
from segdec_edge.bench.nvml import Nvml, open_nvml
from segdec_edge.bench.record import Conditions


def write(root: Path, path: str, text: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root / path


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    """What a Jetson Orin has in these files."""
    write(tmp_path, "proc/loadavg", "0.10 0.20 0.30 1/200 1234\n")
    for core, clock in ((0, 729600), (1, 1510400)):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        write(tmp_path, f"{folder}/scaling_governor", "schedutil\n")
        write(tmp_path, f"{folder}/scaling_cur_freq", f"{clock}\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48500\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "-256000\n")
    write(tmp_path, "sys/class/hwmon/hwmon3/oc1_event_cnt", "2\n")
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet")
    write(tmp_path, "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n")
    hwmon = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    for channel, name, milliamperes in ((1, "VDD_IN", 2000), (2, "VDD_CPU_GPU_CV", 500)):
        write(tmp_path, f"{hwmon}/in{channel}_label", name + "\n")
        write(tmp_path, f"{hwmon}/curr{channel}_input", f"{milliamperes}\n")
        write(tmp_path, f"{hwmon}/in{channel}_input", "5000\n")
    return tmp_path


def test_a_jetson_tells_its_state(orin: Path) -> None:
    found = conditions(orin)
    assert found.load == (0.1, 0.2, 0.3)
    assert found.governor == "schedutil"
    assert found.clocks_mhz == pytest.approx((729.6, 1120.0, 1510.4))
    assert found.power_mode == "nvpmodel 2 MAXN_SUPER"
    assert found.temperature_c == 48.5
    assert found.counters == {"board over-current throttling": 2}


def test_a_machine_that_tells_nothing_gives_no_zeros(tmp_path: Path) -> None:
    found = conditions(tmp_path)
    assert (found.load, found.governor, found.clocks_mhz, found.power_mode, found.temperature_c) == (None,) * 5
    assert found.counters == {}


def test_this_machine_and_this_code_are_told() -> None:
    assert machine_of().cores >= 1
    assert "numpy" in code_of().versions
    assert (code_of().commit is None) == (code_of().dirty is None)


def test_a_busy_or_throttled_machine_is_flagged(orin: Path) -> None:
    before = conditions(orin)
    assert [flag.split(":")[0] for flag in condition_flags(before, before, 2)] == ["the CPU governor is schedutil"]
    busy: Conditions = before.model_copy(update={"load": (1.5, 1.0, 1.0), "governor": "performance"})
    after = before.model_copy(update={"counters": {"board over-current throttling": 5.0}, "gpu": {"throttled": "heat"}})
    flags = " ".join(condition_flags(busy, after, 2))
    assert "busy before the run" in flags
    assert "board over-current throttling: 3 during the run" in flags
    assert "clocks were held back: heat" in flags


def test_the_rail_that_feeds_the_board_is_taken(orin: Path) -> None:
    assert [rail.name for rail in ina_rails(orin)] == ["VDD_IN"]
    meter = open_meter(True, orin)
    assert isinstance(meter, InaMeter)
    with meter.running() as used:
        time.sleep(0.1)
    assert used.joules == pytest.approx(10 * 0.1, rel=0.6)  # 10 W; never a speed: the machine may be busy


def test_a_counter_tells_what_was_added(tmp_path: Path) -> None:
    counter = write(tmp_path, "sys/class/powercap/intel-rapl:0/energy_uj", "5000000\n")
    meter = open_meter(False, tmp_path)
    assert isinstance(meter, CounterMeter)
    with meter.running() as used:
        counter.write_text("7500000\n")
    assert used.joules == 2.5
    with meter.running() as wrapped:
        counter.write_text("10\n")
    assert wrapped.joules is None
    assert Rapl(tmp_path / "none").joules() is None


def test_no_meter_is_no_meter(tmp_path: Path) -> None:
    assert open_meter(False, tmp_path) is None


class Library:
    """libnvidia-ml of a GPU that tells clock, energy, memory and one reason for slow clocks, but no temperature."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: object) -> int:
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: object, value: object) -> int:
        value._obj.value = 123_500  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetClockInfo(self, device: object, kind: int, value: object) -> int:
        value._obj.value = {0: 1980, 2: 2619}[kind]  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetTemperature(self, device: object, sensor: int, value: object) -> int:
        return 3  # NVML_ERROR_NOT_SUPPORTED

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: object, value: object) -> int:
        value._obj.value = 0x1 | 0x40  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: object, memory: object) -> int:
        memory._obj.used = 3 << 20  # type: ignore[attr-defined]
        return 0


def test_a_gpu_tells_what_it_can() -> None:
    gpu = Nvml(Library())
    assert gpu.usable and gpu.joules() == 123.5 and gpu.used_mib() == 3
    assert gpu.state() == {"clock_mhz": 1980, "memory_clock_mhz": 2619, "throttled": "temperature (hardware)"}


def test_no_driver_is_no_gpu() -> None:
    assert open_nvml("libno-such-driver.so.1") is None
    with pytest.raises(OSError):
        ctypes.CDLL("libno-such-driver.so.1")
