// JvmLocks: a monitor with a contention that is known, as in `locks.c`. When a byte arrives six threads want it for three seconds; then it prints `waited NS`, what they
// have waited, and ends with the next byte.

import java.util.concurrent.atomic.AtomicLong;

public class JvmLocks {
    static final Object monitor = new Object();
    static final AtomicLong waited = new AtomicLong();
    static volatile boolean over;

    static void sleep(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    static void has(long ms) {
        long before = System.nanoTime();
        synchronized (monitor) {
            waited.addAndGet(System.nanoTime() - before);
            if (ms > 0) sleep(ms);
        }
    }

    public static void main(String[] words) throws Exception {
        long[] holds = {2, 6, 12, 0, 0, 0};
        Thread[] threads = new Thread[holds.length];
        System.out.println("ready");
        System.in.read();
        for (int at = 0; at < holds.length; at++) {
            long ms = holds[at];
            threads[at] = new Thread(() -> {
                while (!over) {
                    has(ms);
                    sleep(1);
                }
            });
            threads[at].start();
        }
        sleep(3000);
        over = true;
        for (Thread thread : threads) thread.join();
        System.out.println("waited " + waited.get());
        System.in.read();
    }
}
