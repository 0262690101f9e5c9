// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI binding: QEMU's ivshmem-doorbell, version 1.
 *
 * BAR0 has the doorbell register, BAR2 is the mailbox (common/mailbox.h), MSI-X
 * vector 0 is canald's knock. Other uses of ivshmem have another magic in BAR2
 * and are left alone.
 */
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#ifdef CONFIG_X86
#include <asm/processor.h>
#endif

#include "canal.h"

#define BAR_REGISTERS 0
#define BAR_MAILBOX 2
#define REGISTER_DOORBELL 12

static irqreturn_t canal_interrupt(int irq, void *arg)
{
	struct canal_device *dev = arg;

	canal_device_collect(dev);
	canal_woken(dev);
	return IRQ_HANDLED;
}

static int mailbox_check(struct pci_dev *pdev, const struct canal_mailbox *mail)
{
	/* canald stores the epoch last, and both before it lets QEMU begin */
	if (READ_ONCE(mail->magic) != CANAL_MAIL_MAGIC) {
		dev_info(&pdev->dev, "not a canal mailbox: left alone\n");
		return -ENODEV;
	}
	if (READ_ONCE(mail->version) != CANAL_MAIL_VERSION) {
		dev_err(&pdev->dev, "canald speaks version %u of the mailbox, this driver %u\n",
			READ_ONCE(mail->version), CANAL_MAIL_VERSION);
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/*
 * QEMU's emulator makes plain loads and stores of atomic instructions, and nothing of
 * fences, where a guest can have only one processor. canald works on the same memory
 * beside it: events would be lost.
 */
static bool atomics_are_plain(void)
{
#ifdef CONFIG_X86
	return num_possible_cpus() == 1 && hypervisor_cpuid_base("TCGTCGTCGTCG", 0);
#else
	return false;
#endif
}

static u8 __iomem *registers_map(struct pci_dev *pdev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return pcim_iomap_region(pdev, BAR_REGISTERS, KBUILD_MODNAME);
#else
	int err = pcim_iomap_regions(pdev, BIT(BAR_REGISTERS), KBUILD_MODNAME);

	return err ? IOMEM_ERR_PTR(err) : pcim_iomap_table(pdev)[BAR_REGISTERS];
#endif
}

static int bars_map(struct pci_dev *pdev, struct canal_mailbox **ret_mail, u8 __iomem **ret_regs)
{
	struct canal_mailbox *mail;
	u8 __iomem *regs;
	int err;

	if (pci_resource_len(pdev, BAR_MAILBOX) < CANAL_MAIL_LEN ||
	    pci_resource_len(pdev, BAR_REGISTERS) < REGISTER_DOORBELL + sizeof(u32))
		return -ENODEV;
	regs = registers_map(pdev);
	if (IS_ERR(regs))
		return PTR_ERR(regs);
	/* Memory of the host, coherent with ours: write-back like any other. */
	mail = devm_memremap(&pdev->dev, pci_resource_start(pdev, BAR_MAILBOX), CANAL_MAIL_LEN,
			     MEMREMAP_WB);
	if (IS_ERR(mail))
		return PTR_ERR(mail);
	err = mailbox_check(pdev, mail);
	if (err)
		return err;
	*ret_mail = mail;
	*ret_regs = regs;
	return 0;
}

/* The vectors themselves are given back by the managed device. */
static int vector_request(struct pci_dev *pdev, struct canal_device *dev)
{
	int err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);

	if (err < 0)
		return err;
	err = request_irq(pci_irq_vector(pdev, 0), canal_interrupt, 0, KBUILD_MODNAME, dev);
	if (!err)
		dev->irq = pci_irq_vector(pdev, 0);
	return err;
}

/* The BARs are unmapped behind this, by devres: nobody reaches them any more. */
static void device_end(struct pci_dev *pdev, struct canal_device *dev)
{
	pci_set_drvdata(pdev, NULL);
	canal_device_remove(dev);
	if (dev->irq)
		free_irq(dev->irq, dev);
	canal_device_put(dev);
}

static int canal_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct canal_mailbox *mail;
	struct canal_device *dev;
	u8 __iomem *regs;
	int err;

	if (atomics_are_plain())
		dev_warn(
			&pdev->dev,
			"emulated with one processor: programs may hang; QEMU needs -smp 1,maxcpus=2\n");
	err = pcim_enable_device(pdev);
	if (!err)
		err = bars_map(pdev, &mail, &regs);
	if (err)
		return err;
	dev = canal_device_create(mail, (u32 __iomem *)(regs + REGISTER_DOORBELL));
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	pci_set_master(pdev);
	pci_set_drvdata(pdev, dev);
	err = vector_request(pdev, dev);
	if (!err) {
		canal_device_start(dev);
		err = canal_misc_add(dev);
	}
	if (err) {
		dev_err(&pdev->dev, "cannot start: %d\n", err);
		device_end(pdev, dev);
	}
	return err;
}

static void canal_remove(struct pci_dev *pdev)
{
	struct canal_device *dev = pci_get_drvdata(pdev);

	canal_misc_remove(dev);
	device_end(pdev, dev);
}

/*
 * Before a reboot or a kexec: canald must not write into channels any more, the
 * next kernel uses these pages for something else.
 */
static void canal_shutdown(struct pci_dev *pdev)
{
	struct canal_device *dev = pci_get_drvdata(pdev);

	if (dev)
		canal_device_end_all(dev);
}

static const struct pci_device_id canal_ids[] = {
	{ PCI_DEVICE(CANAL_PCI_VENDOR, CANAL_PCI_DEVICE) },
	{ 0 },
};
MODULE_DEVICE_TABLE(pci, canal_ids);

static struct pci_driver canal_driver = {
	.name = KBUILD_MODNAME,
	.id_table = canal_ids,
	.probe = canal_probe,
	.remove = canal_remove,
	.shutdown = canal_shutdown,
};

struct workqueue_struct *canal_work;

static int __init canal_init(void)
{
	int err;

	BUILD_BUG_ON(PAGE_SIZE != 4096);
	canal_work = alloc_workqueue("canal", WQ_UNBOUND, 0);
	if (!canal_work)
		return -ENOMEM;
	err = canal_sock_register();
	if (err)
		goto fail_work;
	err = pci_register_driver(&canal_driver);
	if (err)
		goto fail_sock;
	return 0;
fail_sock:
	canal_sock_unregister();
fail_work:
	destroy_workqueue(canal_work);
	return err;
}
module_init(canal_init);

static void __exit canal_exit(void)
{
	pci_unregister_driver(&canal_driver);
	/* Channels whose last user went just now. */
	destroy_workqueue(canal_work);
	canal_sock_unregister();
}
module_exit(canal_exit);

MODULE_AUTHOR("The canal authors");
MODULE_DESCRIPTION("canal: the host's network for this guest, at the level of the socket call");
MODULE_LICENSE("GPL");
MODULE_VERSION(CANAL_VERSION);
